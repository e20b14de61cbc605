"""Logits, probabilities and labels → numbers. Sees no model. Accuracies are shares, 0…1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def check_scores(scores: Tensor, labels: Tensor | None = None) -> Tensor:
    """The scores (N, C) themselves.

    −∞ for some classes is a mask: these names cannot be the answer.

    Raises:
        ValueError: NaN or +∞ somewhere, or −∞ for every class of an image: the top class would be the first one; or
            labels that are no column.
    """
    unusable = (scores.isnan() | scores.isposinf()).any(-1) | scores.isneginf().all(-1)
    if unusable.any():
        raise ValueError(
            f"The scores of {int(unusable.sum())} of {len(scores)} images are not finite, of image "
            f"{int(unusable.nonzero()[0])} first: look at the features, the prompts and their precision."
        )
    if labels is not None and (labels.min() < 0 or labels.max() >= scores.shape[1]):
        raise ValueError(
            f"Labels must lie in 0…{scores.shape[1] - 1}, the columns of the scores: renumber those of base or novel."
        )
    return scores.detach()


def hits(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the top class is the label; (N, C), (N,) → (N,) on the CPU."""
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} rows of scores need as many labels, not {len(labels)}.")
    return (check_scores(scores, labels).argmax(-1) == labels.to(scores.device)).cpu()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy; (N, C), (N,) → 0…1.

    >>> accuracy(torch.eye(3, 4), torch.tensor([0, 1, 3]))
    0.6666666666666666
    """
    return hits(logits, labels).double().mean().item()


def per_class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Top-1 accuracy of each class's images, nan for a class without images; (N, C), (N,) → (C,)."""
    is_hit = hits(logits, labels)
    labels = labels.cpu()
    n_classes = logits.shape[1]
    return labels[is_hit].bincount(minlength=n_classes) / labels.bincount(minlength=n_classes)


def harmonic_mean(base: float, novel: float) -> float:
    """H = 2·base·novel/(base + novel) (CoCoOp, section 4.1); 0 where both are 0."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def reliability_curve(probs: Tensor, labels: Tensor, bins: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    """Mean confidence, accuracy (nan in an empty bin) and count of each bin; (N, C), (N,) → three (bins,).

    Bins of equal width, ((m − 1)/bins, m/bins], of the top-1 probability (Guo et al. 2017, section 2).
    """
    is_hit = hits(probs, labels)
    confidence = check_probabilities(probs).max(-1).values.cpu().double()
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    count = index.bincount(minlength=bins)
    means = [index.bincount(x, minlength=bins) / count for x in (confidence, is_hit.double())]
    return means[0], means[1], count


def check_probabilities(probs: Tensor) -> Tensor:
    """The probabilities (N, C) themselves; logits are refused, whose confidence would be any number."""
    if (check_scores(probs) < 0).any() or (probs.float().sum(-1) - 1).abs().max() > 1e-2:
        raise ValueError("These are not probabilities (rows that sum to 1): apply logits.softmax(-1) first.")
    return probs.detach()


def expected_calibration_error(probs: Tensor, labels: Tensor, bins: int = 15) -> float:
    """ECE = Σ_m n_m/N · |accuracy_m − confidence_m| (Guo et al. 2017, equation 3); (N, C), (N,) → 0…1."""
    confidence, hit, count = reliability_curve(probs, labels, bins)
    return ((confidence - hit).abs().nan_to_num() * count).sum().item() / len(labels)


def entropy(probs: Tensor) -> Tensor:
    """−Σ_c p log p in nats, with 0 log 0 = 0; (N, C) → (N,)."""
    return torch.special.entr(check_probabilities(probs).float()).sum(-1)


def top1_agreement(a: Tensor, b: Tensor) -> float:
    """Share of images for which two models have the same top class; (N, C), (N, C) → 0…1."""
    return hits(a, check_scores(b).argmax(-1)).double().mean().item()


def kl_bits(teacher_logits: Tensor, student_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(t‖s) of each image in bits, both logits divided by ``temperature``; (N, C), (N, C) → (N,).

    >>> kl_bits(torch.tensor([[0.0, -torch.inf]]), torch.zeros(1, 2)).item()  # certain against undecided
    1.0
    """
    t, s = ((check_scores(x).float() / temperature).log_softmax(-1) for x in (teacher_logits, student_logits))
    return (torch.special.xlogy(t.exp(), t.exp()) - t.exp() * s.clamp(min=-1e30)).sum(-1) / math.log(2)


def perturb(logits: Tensor, temperature: float = 1.0, noise: float = 0.0, seed: int = 0) -> Tensor:
    """A teacher made less confident (temperature > 1) or less correct: (logits + noise · σ · ε)/T; (N, C) → (N, C).

    ε is standard normal of ``seed``, σ the logits' standard deviation. The temperature changes no top prediction.
    """
    logits = logits.detach()
    if noise:
        epsilon = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed)).to(logits)
        logits = logits + noise * logits.std() * epsilon
    return logits / temperature


def pareto_front(cost: Sequence[float], gain: Sequence[float]) -> list[bool]:
    """Which entries no other one beats: none costs at most as much and gains at least as much, with one better.

    >>> pareto_front([1, 2, 3], [5, 4, 6])
    [True, False, True]
    """
    pairs = list(zip(cost, gain))
    return [not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in pairs) for cost, gain in pairs]


def selection_recall(selected: Tensor, true: Tensor) -> float:
    """Share of the distinct true classes that were selected; (K,), (T,) class indices → 0…1."""
    return torch.isin(true.unique().cpu(), selected.cpu()).double().mean().item()


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], n: int = 10_000, seed: int = 0, groups: Sequence | None = None
) -> tuple[float, float, float]:
    """Mean of b − a and its 95 % percentile interval; (N,), (N,) scores of the same images → (mean, low, high).

    Pairs are drawn with replacement (Efron & Tibshirani 1993, chapter 13); with ``groups`` (N,), whole groups are:
    the views of one drawing, say, are not independent.
    """
    difference = np.asarray(b, dtype=float) - np.asarray(a, dtype=float)
    groups = np.arange(len(difference)) if groups is None else np.asarray(groups)
    group = np.unique(groups, return_inverse=True)[1].reshape(-1)
    if not np.isfinite(difference).all() or len(set(group)) < 2:
        raise ValueError("A paired bootstrap needs finite scores of at least two independent images (or groups).")
    units = np.stack([np.bincount(group, difference), np.bincount(group)], 1)  # sum and size of each group
    # Equal units need not be told apart: how often each kind is drawn is multinomial. Scores of 0 and 1 have three
    # kinds, so that 10,000 resamples of 10,000 images take a moment.
    kinds, copies = np.unique(units, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    draws = [rng.multinomial(len(units), copies / len(units), min(500, n - i)) @ kinds for i in range(0, n, 500)]
    sums, sizes = np.concatenate(draws).T
    low, high = np.quantile(sums / sizes, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)


def paired_interval(before: Sequence[float] | float, after: Sequence[float]) -> tuple[float, float, float]:
    """Mean of after − before and its 95 % interval by Student's t; (n,), (n,) scores of the same n seeds.

    ``before`` is one number where it depends on no seed. The interval is about other seeds, not other pictures or
    classes. A percentile bootstrap of five seeds would cover the truth in only five of six cases.

    >>> [round(x, 3) for x in paired_interval([30.0, 31.0, 32.0], [31.0, 33.0, 35.0])]
    [2.0, -0.484, 4.484]
    """
    from scipy import stats  # takes a second to import, and only tables need it

    after = np.asarray(after, dtype=float)
    before = np.broadcast_to(np.asarray(before, dtype=float), after.shape)
    difference = after - before
    if len(difference) < 2 or not np.isfinite(difference).all():
        raise ValueError("An interval over seeds needs finite scores of at least two seeds.")
    mean = float(difference.mean())
    if np.ptp(difference) == 0:
        return mean, mean, mean  # without spread the t statistic is undefined, and the interval a point
    low, high = stats.ttest_rel(after, before).confidence_interval(0.95)
    return mean, float(low), float(high)
