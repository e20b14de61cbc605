"""Exercises of lessons 01 to 03: from features to probabilities, calibration, a context in place of words."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import evaluate, vlm
from ..vlm import encode_texts, unit
from .engine import Exercise, Mutant
from .helping import Stumble
from .probes import draw, toy_vlm

# --- 01: logits ----------------------------------------------------------------------------------------------------


def right_logits(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
    """exp(logit_scale) · cosine, from features as the towers give them."""
    return vlm.logits(unit(image_features), unit(text_features), logit_scale.exp())


logits = Exercise(
    lesson="01",
    name="logits",
    right=right_logits,
    probes=lambda: [
        (3 * draw(0, 5, 4), 2 * draw(1, 3, 4), torch.tensor(1.2)),
        (draw(2, 1, 6), draw(3, 7, 6), torch.tensor(4.6)),
    ],
    mutants={
        "not normalised": Mutant(
            "you multiply vectors of any length. A cosine needs both of length 1: normalise them first.",
            lambda image, text, scale: scale.exp() * image @ text.T,
        ),
        "names not normalised": Mutant(
            "the pictures have length 1, the names have not: long name vectors win.",
            lambda image, text, scale: scale.exp() * unit(image) @ text.T,
        ),
        "pictures not normalised": Mutant(
            "the names have length 1, the pictures have not: the scale of a row then depends on its picture.",
            lambda image, text, scale: scale.exp() * image @ unit(text).T,
        ),
        "batch axis normalised": Mutant(
            "you normalise down the batch, so that each picture changes its neighbours. Normalise each row: dim=-1.",
            lambda image, text, scale: scale.exp() * F.normalize(image, dim=0) @ F.normalize(text, dim=0).T,
        ),
        "logit_scale not exponentiated": Mutant(
            "the model stores the logarithm of the scale: multiply with logit_scale.exp().",
            lambda image, text, scale: scale * unit(image) @ unit(text).T,
        ),
        "names in the rows": Mutant(
            "your rows are names. Pictures come first: (N, D) @ (D, C) gives (N, C).",
            lambda image, text, scale: scale.exp() * unit(text) @ unit(image).T,
        ),
    },
    advice="length 1 on both sides, a product of (N, D) and (D, C), then the scale.",
    hints=(
        "A cosine is the product of two vectors of length 1. Which axis holds one vector?",
        "F.normalize(x, dim=-1) makes rows of length 1; the logits are logit_scale.exp() * images @ names.T.",
    ),
    stumble=Stumble(
        "mat1 and mat2 shapes cannot be multiplied",
        "the names lie in rows, as the pictures do: (N, D) times (C, D) needs the second one transposed, .T.",
        lambda image, text, scale: scale.exp() * unit(image) @ unit(text),
    ),
    importance=3,
)

# --- 01: several sentences for a name --------------------------------------------------------------------------------


def _sentences(model: vlm.VLM, names: list[str], templates: list[str]) -> Tensor:
    """(T, C, D), as the tower gives them."""
    return torch.stack([encode_texts(model, [template.format(name) for name in names]) for template in templates])


def _mixed_axes(model: vlm.VLM, names: list[str], templates: list[str]) -> Tensor:
    texts = [template.format(name) for name in names for template in templates]
    return unit(unit(encode_texts(model, texts)).reshape(len(templates), len(names), -1).mean(0))


encode_names = Exercise(
    lesson="01",
    name="encode_names",
    right=vlm.encode_names,
    probes=lambda: [
        (toy_vlm(), ["cat", "red panda", "ox"], ["a photo of a {}.", "{}"]),
        (toy_vlm(), ["ink"], ["art of {}.", "{}, a drawing", "the {}"]),
    ],
    mutants={
        "averaged before normalising": Mutant(
            "you average vectors of different lengths, so that long ones count more: make each unit, then average.",
            lambda model, names, templates: unit(_sentences(model, names, templates).mean(0)),
        ),
        "not normalised again": Mutant(
            "the mean of unit vectors is shorter than 1: normalise once more at the end.",
            lambda model, names, templates: unit(_sentences(model, names, templates)).mean(0),
        ),
        "axes mixed": Mutant(
            "a name gets sentences of other names: the order of the list and of the reshaped axes disagree.",
            _mixed_axes,
        ),
        "one template": Mutant(
            "only the first template is used.",
            lambda model, names, templates: vlm.encode_names(model, names, templates[:1]),
        ),
        "averaged over names": Mutant(
            "you average over the names and keep the templates: the mean belongs over the templates.",
            lambda model, names, templates: unit(unit(_sentences(model, names, templates)).mean(1)),
        ),
    },
    advice="for each template a matrix (C, D) of unit rows; their mean; unit rows again.",
    hints=(
        "Three steps for each name: unit vectors of its sentences, their mean, a unit vector again.",
        "Write a list with one (C, D) matrix for each template: encode_texts(vlm, [t.format(n) for n in names]).",
    ),
    stumble=Stumble(
        "'VLM' object has no attribute 'encode",
        "a VLM is asked through functions: kd.vlm.encode_texts(vlm, texts).",
        lambda model, names, templates: model.encode_text(names),
    ),
    minutes=8,
)

# --- 02: calibration -------------------------------------------------------------------------------------------------


def _weighted_gap(probs: Tensor, labels: Tensor, group: Tensor, confidence: Tensor, weighted: bool = True) -> float:
    """Σ over groups of |accuracy − confidence|, weighted by size or equally."""
    hit = (probs.argmax(1) == labels).float()
    gaps, sizes = [], []
    for g in group.unique():
        members = group == g
        gaps.append((hit[members].mean() - confidence[members].mean()).abs())
        sizes.append(members.float().mean())
    weights = torch.stack(sizes) if weighted else torch.full((len(gaps),), 1 / len(gaps))
    return float((torch.stack(gaps) * weights).sum())


def _bins(confidence: Tensor, bins: int) -> Tensor:
    return (confidence * bins).ceil().clamp(1, bins)


def _top(probs: Tensor) -> Tensor:
    return probs.max(1).values


def _of_label(probs: Tensor, labels: Tensor) -> Tensor:
    return probs[range(len(labels)), labels]


def _without_the_certain(probs: Tensor, labels: Tensor, bins: int) -> float:
    """Bins that include their lower end and not their upper one."""
    inside = _top(probs) < 1
    part = _weighted_gap(probs[inside], labels[inside], (_top(probs)[inside] * bins).floor(), _top(probs)[inside])
    return part * float(inside.float().mean())


def _calibration_probe(seed: int, n: int, n_classes: int, bins: int) -> tuple[Tensor, Tensor, int]:
    """Always right where the answer is class 0, mostly wrong elsewhere: too unsure here, too sure there."""
    probs = (2 * draw(seed, n, n_classes)).softmax(1)
    probs[:4] = torch.eye(n_classes)[1]  # a confidence of 1, which the last bin has to hold
    others = 1 + draw(seed + 1, n).mul(7).long().abs() % (n_classes - 1)
    return probs, torch.where(probs.argmax(1) == 0, 0, others), bins


expected_calibration_error = Exercise(
    lesson="02",
    name="expected_calibration_error",
    right=evaluate.expected_calibration_error,
    probes=lambda: [_calibration_probe(0, 60, 4, 15), _calibration_probe(2, 90, 3, 5)],
    mutants={
        "bins by label": Mutant(
            "you group the pictures by their label. Group them by confidence, the highest probability.",
            lambda probs, labels, bins=15: _weighted_gap(probs, labels, labels, _top(probs)),
        ),
        "unweighted mean": Mutant(
            "every bin counts the same, a bin of one picture too: weigh each by its share of the pictures.",
            lambda probs, labels, bins=15: _weighted_gap(probs, labels, _bins(_top(probs), bins), _top(probs), False),
        ),
        "confidence of the true class": Mutant(
            "you take the probability of the true class, which nobody knows in use: confidence is the highest one.",
            lambda probs, labels, bins=15: _weighted_gap(
                probs, labels, _bins(_of_label(probs, labels), bins), _of_label(probs, labels)
            ),
        ),
        "empty bins": Mutant(
            "a bin without pictures has no mean, and its NaN spreads to the sum: skip bins where nothing is inside.",
            lambda probs, labels, bins=15: torch.nan,
        ),
        "certain pictures left out": Mutant(
            "a picture of confidence 1 is in none of your bins: the last one includes its upper end, as ceil does.",
            lambda probs, labels, bins=15: _without_the_certain(probs, labels, bins),
        ),
        "no absolute value": Mutant(
            "gaps above and below 0 cancel: take each bin's absolute value before you add.",
            lambda probs, labels, bins=15: (probs.argmax(1) == labels).double().mean() - _top(probs).double().mean(),
        ),
        "no bins": Mutant(
            "being too sure in some bins and too unsure in others cancels: take each bin's absolute gap, then add.",
            lambda probs, labels, bins=15: _weighted_gap(probs, labels, torch.zeros(len(labels)), _top(probs)),
        ),
    },
    advice="for each bin of confidence |accuracy − mean confidence|, times its share of the pictures; skip empty bins.",
    hints=(
        "Which pictures said about 70 %? Were 70 % of them right? Ask this for every bin and weigh by its size.",
        "confidence, answer = probs.max(1); a picture is in bin ceil(confidence · bins); loop over the bins.",
    ),
    stumble=Stumble(
        "torch.return_types.max",
        "probs.max(1) gives two things: confidence, answer = probs.max(1).",
        lambda probs, labels, bins=15: (probs.max(1) > 1 / bins).float(),
    ),
    minutes=10,
)

# --- 03: a learned context -------------------------------------------------------------------------------------------


def right_splice(token_embeddings: Tensor, ctx: Tensor) -> Tensor:
    """(C, L, d) whose tokens 1…n are the vectors (n, d); the start token, the name and the end token stay."""
    vectors = ctx.expand(len(token_embeddings), -1, -1)
    return torch.cat([token_embeddings[:, :1], vectors, token_embeddings[:, 1 + len(ctx) :]], dim=1)


def _inserted(token_embeddings: Tensor, ctx: Tensor) -> Tensor:
    vectors = ctx.expand(len(token_embeddings), -1, -1)
    return torch.cat([token_embeddings[:, :1], vectors, token_embeddings[:, 1:]], dim=1)


def _from_the_start(token_embeddings: Tensor, ctx: Tensor) -> Tensor:
    vectors = ctx.expand(len(token_embeddings), -1, -1)
    return torch.cat([vectors, token_embeddings[:, len(ctx) :]], dim=1)


def _with_gradient(function: Callable, token_embeddings: Tensor, ctx: Tensor):
    """The result, and the gradient that a loss on it sends to the context."""
    ctx = ctx.requires_grad_()
    result = function(token_embeddings, ctx)
    if result is None or result is ...:
        return None
    if not result.requires_grad:
        return result, None
    weights = torch.linspace(0, 1, result.numel()).reshape(result.shape)
    return result, torch.autograd.grad((result * weights).sum(), ctx)[0]


splice_context = Exercise(
    lesson="03",
    name="splice_context",
    right=right_splice,
    probes=lambda: [(draw(0, 3, 8, 4), draw(1, 2, 4)), (draw(2, 2, 9, 3), draw(3, 4, 3))],
    observe=_with_gradient,
    observed="the result, and the gradient that a weighted sum of it sends to the context",
    mutants={
        "start token overwritten": Mutant(
            "your vectors begin at position 0 and overwrite the start token: they belong behind it.",
            _from_the_start,
        ),
        "inserted": Mutant(
            "you insert the vectors and keep the placeholders: the sentence grows by n. Replace the placeholders.",
            _inserted,
        ),
        "end token shifted": Mutant(
            "name and end token have moved back by n, so the model reads its feature at a wrong place: replace the "
            "placeholders instead of pushing them on.",
            lambda token_embeddings, ctx: _inserted(token_embeddings, ctx)[:, : token_embeddings.shape[1]],
        ),
        "ctx detached": Mutant(
            "no gradient reaches the context: .detach(), .data, .tolist() or torch.tensor(…) cut it off.",
            lambda token_embeddings, ctx: right_splice(token_embeddings, ctx.detach()),
        ),
    },
    advice="the start token, then the n vectors for every class, then whatever stood behind the n placeholders.",
    hints=(
        "Position 0 is the start token, 1…n hold placeholders. What has to stay, and what is replaced?",
        "torch.cat([start, vectors, rest], dim=1), with ctx.expand(C, -1, -1) for the vectors of all C classes.",
    ),
    stumble=Stumble(
        "Tensors must have same number of dimensions",
        "the vectors are (n, d), the rest is (C, …, d): give each class the same vectors, ctx.expand(C, -1, -1).",
        lambda token_embeddings, ctx: torch.cat([token_embeddings[:, :1], ctx, token_embeddings[:, 3:]], dim=1),
    ),
    importance=3,
    minutes=8,
)

harmonic_mean = Exercise(
    lesson="03",
    name="harmonic_mean",
    right=evaluate.harmonic_mean,
    probes=lambda: [(0.8, 0.6), (0.9, 0.1), (0.5, 0.0), (0.0, 0.0)],
    mutants={
        "arithmetic mean": Mutant(
            "this is the arithmetic mean: 0.9 on base classes would make up for 0.1 on novel ones.",
            lambda base, novel: (base + novel) / 2,
        ),
        "geometric mean": Mutant(
            "this is the geometric mean; the harmonic one is 2 · base · novel / (base + novel).",
            lambda base, novel: (base * novel) ** 0.5,
        ),
        "zero division": Mutant(
            "right, but where both accuracies are 0 you divide by zero: return 0 there.",
            lambda base, novel: 2 * base * novel / (base + novel),
        ),
        "division by one zero": Mutant(
            "right, but 1 / accuracy fails as soon as one accuracy is 0: 2 · base · novel / (base + novel) does not.",
            lambda base, novel: 2 / (1 / base + 1 / novel),
        ),
        "without the 2": Mutant(
            "half of it: two equal accuracies must give the same number again.",
            lambda base, novel: base * novel / (base + novel) if base + novel else 0.0,
        ),
    },
    advice="2 · base · novel / (base + novel), and 0 where both are 0.",
    hints=(
        "It is the reciprocal of the mean reciprocal. What happens at 0?",
        "2 * base * novel / (base + novel), with an if for the case in which both are 0.",
    ),
    stumble=Stumble(
        "division by zero",
        "both accuracies can be 0, and then their sum is: return 0 in that case.",
        lambda base, novel: 2 * base * novel / (base + novel),
    ),
    minutes=3,
    importance=1,
)
