"""Lesson 01: from features to logits, and a name's feature from several sentences."""

from types import SimpleNamespace

import torch
from torch.nn.functional import normalize

from .. import vlm
from ..vlm import encode_texts, unit
from .engine import Exercise
from .outcomes import draw


def right_logits(image_features, text_features, logit_scale):
    return vlm.logits(unit(image_features), unit(text_features), logit_scale.exp())


logits = Exercise(
    "logits",
    right_logits,
    lambda: [(3 * draw(0, 5, 4), 2 * draw(1, 3, 4), torch.tensor(1.2))],
    {
        "not normalised": lambda image, text, scale: scale.exp() * image @ text.T,
        "batch axis normalised": lambda image, text, s: s.exp() * normalize(image, dim=0) @ normalize(text, dim=0).T,
        "logit_scale not exponentiated": lambda image, text, scale: scale * unit(image) @ unit(text).T,
    },
)


def toy_vlm():
    """A text tower that adds up one vector for each letter, the first ones with more weight."""
    table = draw(0, 256, 8)
    return SimpleNamespace(
        name="toy",
        device="cpu",
        has_clip_text=False,
        tokenizer=lambda texts: torch.tensor([list(text.ljust(48)[:48].encode()) for text in texts]),
        model=SimpleNamespace(encode_text=lambda tokens: (table[tokens] / torch.arange(1, 49)[:, None]).sum(1)),
    )


def features_of(model, names, templates):
    """(T, C, D), as the tower gives them."""
    return torch.stack([encode_texts(model, [template.format(name) for name in names]) for template in templates])


def axes_mixed(model, names, templates):
    of_sentences = unit(features_of(model, names, templates))
    return unit(of_sentences.transpose(0, 1).reshape(of_sentences.shape).mean(0))


encode_names = Exercise(
    "encode_names",
    vlm.encode_names,
    lambda: [(toy_vlm(), ["cat", "red panda", "ox"], ["a photo of a {}.", "{}"])],
    {
        "averaged before normalising": lambda *arguments: unit(features_of(*arguments).mean(0)),
        "not normalised again": lambda *arguments: unit(features_of(*arguments)).mean(0),
        "axes mixed": axes_mixed,
    },
)
