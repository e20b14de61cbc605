"""Logits, probabilities and labels → numbers. Sees no model. Accuracies are shares, 0…1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from .support.tensors import as_labels, as_numbers, check_tensor
from .support.values import real, seed_of, whole


def check_scores(scores: Tensor, what: str) -> Tensor:
    """The scores (N, C); refused if they are NaN or +∞ somewhere, or −∞ for every class of an image.

    −∞ for some classes is a mask: these names cannot be the answer.

    Raises:
        ValueError: says of which image.
    """
    usable = ~(scores.isnan() | scores.isposinf()).any(-1) & ~scores.isneginf().all(-1)
    if not usable.all():
        first = int((~usable).nonzero()[0])
        raise ValueError(
            f"{what} of {int((~usable).sum())} of {len(scores)} images are not finite, of image {first} first: nothing "
            "can be measured with them; look at the features, the prompts and the precision they were computed with."
        )
    return scores


def _scores(scores: Tensor, labels: Tensor | None = None, probabilities: bool = False) -> Tensor:
    check_tensor(scores, "Scores")
    if labels is not None:
        as_labels(check_tensor(labels, "Labels"))
    if scores.ndim != 2 or not scores.numel():
        raise ValueError(f"Scores must be (N, C) with at least one image, not of shape {tuple(scores.shape)}.")
    check_scores(scores, "The scores")
    if probabilities and ((scores < 0).any() or (scores.float().sum(-1) - 1).abs().max() > 1e-2):
        raise ValueError("These are not probabilities (rows that sum to 1): apply logits.softmax(-1) first.")
    if labels is not None and labels.shape != scores.shape[:1]:
        raise ValueError(f"{len(scores)} rows of scores need as many labels, not shape {tuple(labels.shape)}.")
    if labels is not None and not (labels.min() >= 0 and labels.max() < scores.shape[1]):
        raise ValueError(
            f"Labels must lie in 0…{scores.shape[1] - 1}, the columns of the scores: renumber those of base or novel."
        )
    return scores.detach() if scores.is_floating_point() else scores.float()


def _hits(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(-1) == labels.to(scores.device)).cpu()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy; (N, C), (N,) → 0…1.

    >>> accuracy(torch.eye(3, 4), torch.tensor([0, 1, 3]))
    0.6666666666666666
    """
    return _hits(_scores(logits, labels), labels).double().mean().item()


def per_class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Top-1 accuracy of each class's images, nan for a class without images; (N, C), (N,) → (C,)."""
    hits, labels, n_classes = _hits(_scores(logits, labels), labels), labels.cpu().long(), logits.shape[1]
    return labels[hits].bincount(minlength=n_classes) / labels.bincount(minlength=n_classes)


def harmonic_mean(base: float, novel: float) -> float:
    """H = 2·base·novel/(base + novel) (CoCoOp, section 4.1); 0 where both are 0."""
    if base < 0 or novel < 0:
        raise ValueError(f"Accuracies cannot be negative: base {base}, novel {novel}.")
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def reliability_curve(probs: Tensor, labels: Tensor, bins: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    """Mean confidence, accuracy (nan in an empty bin) and count of each bin; (N, C), (N,) → three (bins,).

    Bins of equal width, ((m − 1)/bins, m/bins], of the top-1 probability (Guo et al. 2017, section 2).
    """
    bins = whole(bins, "bins", 1)
    confidence = _scores(probs, labels, probabilities=True).max(-1).values.cpu().double()
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    count = index.bincount(minlength=bins)
    means = [index.bincount(x, minlength=bins) / count for x in (confidence, _hits(probs, labels).double())]
    return means[0], means[1], count


def expected_calibration_error(probs: Tensor, labels: Tensor, bins: int = 15) -> float:
    """ECE = Σ_m n_m/N · |accuracy_m − confidence_m| (Guo et al. 2017, equation 3); (N, C), (N,) → 0…1."""
    confidence, hit, count = reliability_curve(probs, labels, bins)
    return ((confidence - hit).abs().nan_to_num() * count).sum().item() / len(labels)


def entropy(probs: Tensor) -> Tensor:
    """−Σ_c p log p in nats, with 0 log 0 = 0; (N, C) → (N,)."""
    probs = _scores(probs, probabilities=True)
    return torch.special.entr(probs.to(torch.promote_types(probs.dtype, torch.float32))).sum(-1)


def top1_agreement(a: Tensor, b: Tensor) -> float:
    """Share of images for which two models name the same class; (N, C), (N, C) → 0…1."""
    if check_tensor(a, "Scores").shape != check_tensor(b, "Scores").shape:
        raise ValueError(f"Two models agree only over the same images and classes, not {a.shape} and {b.shape}.")
    return _hits(_scores(a), _scores(b).argmax(-1)).double().mean().item()


def kl_bits(teacher_logits: Tensor, student_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(t‖s) of each image in bits, both logits divided by ``temperature``; (N, C), (N, C) → (N,).

    >>> kl_bits(torch.tensor([[0.0, -torch.inf]]), torch.zeros(1, 2)).item()  # certain against undecided
    1.0
    """
    if check_tensor(teacher_logits, "Scores").shape != check_tensor(student_logits, "Scores").shape:
        raise ValueError(
            f"KL needs the same images and classes, not {teacher_logits.shape} and {student_logits.shape}."
        )
    temperature = real(temperature, "temperature", 0, above=True)
    t, s = ((_scores(x).float() / temperature).log_softmax(-1) for x in (teacher_logits, student_logits))
    return (torch.special.xlogy(t.exp(), t.exp()) - t.exp() * s.clamp(min=-1e30)).sum(-1) / math.log(2)


def perturb(logits: Tensor, temperature: float = 1.0, noise: float = 0.0, seed: int = 0) -> Tensor:
    """A teacher made less certain (temperature > 1) or less right: (logits + noise · σ · ε)/T; (N, C) → (N, C).

    ε is standard normal of ``seed``, σ the logits' standard deviation.  The temperature changes no top answer.
    """
    temperature = real(temperature, "temperature", 0, above=True)
    noise = real(noise, "noise", 0)
    scores = _scores(logits)
    if noise:
        epsilon = torch.randn(scores.shape, generator=torch.Generator().manual_seed(seed_of(seed))).to(scores)
        scores = scores + noise * scores.std() * epsilon
    return scores / temperature


def pareto_front(cost: Sequence[float], gain: Sequence[float]) -> list[bool]:
    """Which entries are beaten by none: nothing costs at most as much and gains at least as much, with one better.

    >>> pareto_front([1, 2, 3], [5, 4, 6])
    [True, False, True]
    """
    costs, gains = _numbers(cost, "cost"), _numbers(gain, "gain")
    if costs.shape != gains.shape or not np.isfinite([costs, gains]).all():
        raise ValueError(f"cost and gain must be as many finite numbers; got {costs.tolist()} and {gains.tolist()}.")
    pairs = list(zip(costs.tolist(), gains.tolist()))
    return [not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in pairs) for cost, gain in pairs]


def selection_recall(selected: Tensor, true: Tensor) -> float:
    """Share of the distinct true classes that were selected; (K,), (T,) class indices → 0…1."""
    selected, true = as_numbers(selected, "selected"), as_numbers(true, "true")
    if not true.numel():
        raise ValueError("Recall needs at least one true class.")
    if torch.bool in (selected.dtype, true.dtype):
        raise ValueError("Recall compares indices of classes: give mask.nonzero().flatten() instead of a mask.")
    return torch.isin(true.unique().cpu(), selected.cpu()).double().mean().item()


def _array(x: Tensor | Sequence, what: str) -> np.ndarray:
    if isinstance(x, Tensor):
        return x.detach().cpu().double().numpy()
    if not isinstance(x, Iterable | Real) or isinstance(x, str | bytes | Mapping | set | frozenset):
        raise ValueError(f"{what} is a {type(x).__name__}: give a list of numbers, one for each in one order.")
    return np.asarray(x if hasattr(x, "__array__") or isinstance(x, Real) else list(x))


def _numbers(x: Tensor | Sequence, what: str) -> np.ndarray:
    array = _array(x, what)
    try:
        return array.astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} does not hold numbers alone ({error}): give a list of them.") from error


def paired_bootstrap(
    a: Tensor | Sequence,
    b: Tensor | Sequence,
    n: int = 10_000,
    seed: int = 0,
    groups: Tensor | Sequence | None = None,
) -> tuple[float, float, float]:
    """Mean of b − a and its 95 % percentile interval; (N,), (N,) scores of the same images → (mean, low, high).

    Pairs are drawn with replacement (Efron & Tibshirani 1993, chapter 13); with ``groups`` (N,), whole groups are:
    the views of one drawing, say, are not independent.
    """
    a, b, n = _numbers(a, "a"), _numbers(b, "b"), whole(n, "n", 1)
    groups = np.arange(a.size) if groups is None else _array(groups, "groups")
    if a.ndim != 1 or not a.shape == b.shape == groups.shape:
        raise ValueError(
            f"a, b and groups must be (N,), for the same images; got {a.shape}, {b.shape}, {groups.shape}."
        )
    difference = b - a
    group = np.unique(groups, return_inverse=True)[1].reshape(-1)
    if not np.isfinite(difference).all() or not group.size or not group.max():
        raise ValueError("A paired bootstrap needs finite scores of at least two independent images (or groups).")
    units = np.stack([np.bincount(group, difference), np.bincount(group)], 1)  # sum and size of each group
    # Units that are alike need not be told apart: how often each kind is drawn is multinomial. Scores of 0 and 1
    # have three kinds, so that 10,000 resamples of 10,000 images take a moment.
    kinds, copies = np.unique(units, axis=0, return_counts=True)
    rng = np.random.default_rng(seed_of(seed))
    draws = [rng.multinomial(len(units), copies / len(units), min(500, n - i)) @ kinds for i in range(0, n, 500)]
    sums, sizes = np.concatenate(draws).T
    low, high = np.quantile(sums / sizes, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)


def paired_interval(before: Tensor | Sequence, after: Tensor | Sequence) -> tuple[float, float, float]:
    """Mean of after − before and its 95 % interval by Student's t; (n,), (n,) scores of the same n seeds.

    ``before`` is one number where it depends on no seed.
    For a handful of seeds, whose differences are close to normal.  A percentile bootstrap of five covers the truth in
    about five of six cases where it promises nineteen of twenty (``tests/test_evaluate.py`` counts).  The interval
    speaks of other seeds, not of other pictures or classes.

    Raises:
        ValueError: fewer than two pairs, or scores that are not finite.

    >>> [round(x, 3) for x in paired_interval([30.0, 31.0, 32.0], [31.0, 33.0, 35.0])]
    [2.0, -0.484, 4.484]
    """
    from scipy import stats  # takes a second to import, and only tables need it

    before = _numbers(before, "before")
    after = _numbers(after, "after")
    before = np.full(after.shape, before) if before.ndim == 0 else before
    if before.ndim != 1 or before.shape != after.shape:
        raise ValueError(f"before and after must be (n,), for the same n seeds; got {before.shape} and {after.shape}.")
    difference = after - before
    if len(difference) < 2 or not np.isfinite(difference).all():
        raise ValueError("An interval over seeds needs finite scores of at least two seeds.")
    mean = float(difference.mean())
    if np.ptp(difference) == 0:
        return mean, mean, mean  # without spread the t statistic is undefined, and the interval a point
    low, high = stats.ttest_rel(after, before).confidence_interval(0.95)
    return mean, float(low), float(high)
