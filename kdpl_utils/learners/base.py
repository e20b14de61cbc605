"""What all prompt learners are: images and class names → logits, with a gradient to the learned tensors only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..prompts import word_vectors
from ..protocol import all_logits
from ..support.memory import in_chunks
from ..support.values import plain, seed_of, whole
from ..towers.image import encode_image
from ..towers.text import text_tower
from ..towers.words import as_spelled
from ..train import Recipe
from ..vlm import (
    TEMPLATE,
    VLM,
    Pixels,
    Templates,
    as_templates,
    check_names,
    check_vlm,
    encode_texts,
    logits,
    sentences_of,
    unit,
)


class Learner(nn.Module):
    """Images (N, 3, H, W), or their features, and C class names → logits (N, C). This one is zero-shot
    CLIP itself with ``vlm.TEMPLATE``: the baseline of every table.

    A method overrides ``text`` or ``tokens`` or both, or ``classifier`` where the two depend on each other; and
    ``loss`` if it adds a term of its own. So ``cross_entropy``, ``symmetric_kl`` and ``select_classes`` apply to all:

        learner.loss(pixels, names, lambda z: F.cross_entropy(z, labels))        # supervised
        learner.loss(pixels, names, lambda z: symmetric_kl(teacher_logits, z))   # KDPL

    Attributes:
        vlm: the frozen student; ``learner.parameters()`` yields nothing of it.
        settings: the arguments that make this learner again, kept in its file.
        recipe: the published schedule.
        open_vocabulary: whether it can name classes that it was not trained on.
    """

    recipe: ClassVar[Recipe] = Recipe()
    open_vocabulary: ClassVar[bool] = True

    def __init__(self, vlm: VLM, **settings):
        super().__init__()
        check_vlm(vlm)
        self.vlm = vlm
        self.settings = {key: plain(value, key) for key, value in settings.items()}
        self.frozen_text = FrozenTexts(vlm)

    def text(self, classnames: Sequence[str]) -> Tensor:
        """(C, D) unit text features; by default of "a photo of a name." (``vlm.TEMPLATE``), each name encoded once."""
        return self.frozen_text(classnames)

    def image(self, images: Tensor) -> Tensor:
        """(N, D) unit image features of preprocessed images (N, 3, H, W), seen with ``tokens()`` where there are any.

        A learner without tokens passes cached unit features (N, D) through.
        """
        tokens = self.tokens()
        return prompted_features(self.vlm, images, tokens) if tokens else self.frozen_image(images)

    def tokens(self) -> list[Tensor]:
        """The learned tokens (n, d) of the image tower's first layers; none by default."""
        return []

    def frozen_image(self, images: Tensor) -> Tensor:
        """(N, D) unit image features of the model as it was."""
        if images.ndim == 2:
            return images
        with torch.no_grad():
            return unit(self.vlm.model.encode_image(images))

    def classifier(self, classnames: Sequence[str]) -> Callable[[Tensor], Tensor]:
        """Images → logits (N, C) for one list of names, which is encoded once for any number of images."""
        text = self.text(classnames)
        return lambda images: logits(self.image(images), text, self.vlm.scale)

    def forward(self, images: Tensor, classnames: Sequence[str]) -> Tensor:
        return self.classifier(classnames)(images)

    def loss(self, images: Tensor, classnames: Sequence[str], supervise: Callable[[Tensor], Tensor]) -> Tensor:
        """What to minimise: ``supervise`` maps logits (N, C) to a scalar; the method's own term, if any, is added."""
        return supervise(self(images, classnames))

    def predict(self, images: Sequence, classnames: Sequence[str], k: int = 5) -> list[list[tuple[str, float]]]:
        """The k most probable names of each PIL picture, with their probabilities, most probable first."""
        names = as_spelled(classnames)
        return predict(self.vlm, self.classifier(names), images, names, k)

    def memory(self) -> dict[str, dict[str, Tensor]]:
        """The frozen text features encoded so far, by attribute and class name, for ``fit`` to keep and to fill."""
        return {key: value.known for key, value in vars(self).items() if isinstance(value, FrozenTexts)}

    def n_learned(self) -> int:
        """How many numbers are learned."""
        return sum(p.numel() for p in self.parameters())


@torch.no_grad()
def predict(
    vlm: VLM, classify: Callable[[Tensor], Tensor], images: Sequence, classnames: Sequence[str], k: int
) -> list[list[tuple[str, float]]]:
    """The k most probable names of each PIL picture, with probabilities; ``classify``: preprocessed → logits (N, C)."""
    pixels, k = Pixels(vlm, images), whole(k, "k", 1)
    if len(images) == 0:
        return []
    probabilities = all_logits(classify, pixels).softmax(-1)
    top = probabilities.topk(min(k, len(classnames)))
    rows = zip(top.indices.tolist(), top.values.tolist())
    return [[(classnames[c], p) for c, p in zip(indices, values)] for indices, values in rows]


class FrozenTexts:
    """Class names → (C, D) unit text features of the frozen model, each name encoded when first asked for.

    Args:
        templates: as in ``encode_names``; the features of a name are averaged as they come, then made unit.
    """

    def __init__(self, vlm: VLM, templates: Templates = (TEMPLATE,)):
        check_vlm(vlm)
        self.vlm, self.templates, self.known = vlm, as_templates(templates), {}

    def __call__(self, classnames: Sequence[str]) -> Tensor:
        return unit(self.mean(classnames))

    def mean(self, classnames: Sequence[str]) -> Tensor:
        """(C, D) the averages themselves, not of unit length."""
        names = check_names(classnames)
        new = [name for name in names if name not in self.known]
        for start in range(0, len(new), 256):
            part = new[start : start + 256]
            # All sentences of all names at once: names behind the same words share those.
            texts = sentences_of(part, self.templates, TEMPLATE)
            features = encode_texts(self.vlm, [text for own in texts for text in own])
            means = [own.mean(0) for own in features.split([len(own) for own in texts])]
            self.known.update(zip(part, means))
        return torch.stack([self.known[name] for name in names])


def prompted_features(vlm: VLM, images: Tensor, tokens: list[Tensor], raw: bool = False) -> Tensor:
    """(N, D) image features, unit unless ``raw``, of images (N, 3, H, W) with learned tokens in the image tower."""
    if images.ndim != 4:
        raise ValueError(
            "This learner changes the image tower, so it needs the images (N, 3, H, W), not features cached without "
            f"its tokens, of shape {tuple(images.shape)}: use Pixels(vlm, pictures)."
        )
    features = in_chunks(lambda part: encode_image(vlm.model, part, tokens), images)
    return features if raw else unit(features)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """PyTorch's own initialisation, drawn by ``seed`` and leaving the global random numbers as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed))
        yield


def words_to_start_from(vlm: VLM, ctx_init: str, n_ctx: int) -> tuple[Tensor | None, str]:
    """The first ``n_ctx`` words as vectors (n_ctx, d), and what is frozen behind them as a template for the name.

    None and "{}." where there are fewer words than vectors: then the start is random.
    """
    words, rest = word_vectors(vlm, ctx_init), ctx_init.split()[n_ctx:]
    if n_ctx > len(words):
        return None, "{}."
    if len(words) != len(ctx_init.split()):
        raise ValueError(f"A word of {ctx_init!r} is several tokens: start from words of one token each.")
    return words[:n_ctx].clone(), " ".join([*rest, "{}."])


def check_depth(vlm: VLM, depth: int | None, published: int, towers: Sequence[str]) -> int:
    """How many layers get fresh tokens; None takes the published number, or all layers of a shallower model."""
    layers_of = {
        "image": len(vlm.model.visual.transformer.resblocks) if "image" in towers else None,
        "text": len(text_tower(vlm.model).transformer.resblocks) if "text" in towers else None,
    }
    name = min(towers, key=layers_of.get)
    layers = layers_of[name]
    if depth is None:
        return min(published, layers)
    depth = whole(depth, "depth", 1)
    if depth > layers:
        raise ValueError(
            f"depth is {depth}, and the {name} tower of {vlm.name} has {layers} layers: choose 1…{layers}."
        )
    return depth
