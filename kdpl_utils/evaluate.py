"""Logits, probabilities and labels → numbers. Sees no model. Accuracies are shares, 0…1."""

from __future__ import annotations

import math

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
    if labels.shape != scores.shape[:1]:  # PyTorch would broadcast them
        raise ValueError(f"{len(scores)} rows of scores need as many labels, not shape {tuple(labels.shape)}.")
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


def selection_recall(selected: Tensor, true: Tensor) -> float:
    """Share of the distinct true classes that were selected; (K,), (T,) class indices → 0…1."""
    return torch.isin(true.unique().cpu(), selected.cpu()).double().mean().item()
