"""KDPL's losses, teacher and student logits (B, C) → a scalar; its choice of classes (arXiv 2407.03056, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import LongTensor, Tensor


def forward_kl(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(t‖s) = 1/B Σ_b Σ_c t (log t − log s), mass-covering. Its gradient in the student's logits is (s − t)/B.

    >>> forward_kl(torch.zeros(3, 4), torch.ones(3, 4)).item()  # a constant per image changes no distribution
    0.0
    """
    t, s = _log_probabilities(teacher_logits, student_logits)
    return _mean_kl(t, s)


def reverse_kl(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(s‖t) = 1/B Σ_b Σ_c s (log s − log t), mode-seeking."""
    t, s = _log_probabilities(teacher_logits, student_logits)
    return _mean_kl(s, t)


def symmetric_kl(teacher_logits: Tensor, student_logits: Tensor, alpha: float = 0.5) -> Tensor:
    """KDPL's loss, alpha·KL(t‖s) + (1 − alpha)·KL(s‖t); alpha = ½ is the published weight (equation 4)."""
    t, s = _log_probabilities(teacher_logits, student_logits)
    return alpha * _mean_kl(t, s) + (1 - alpha) * _mean_kl(s, t)


def _log_probabilities(teacher_logits: Tensor, student_logits: Tensor) -> tuple[Tensor, Tensor]:
    if teacher_logits.shape != student_logits.shape or student_logits.ndim != 2:  # PyTorch would broadcast them
        raise ValueError(
            "Teacher and student logits must be (B, C) for the same images and the same classes in the same order, "
            f"not {tuple(teacher_logits.shape)} and {tuple(student_logits.shape)}."
        )
    return _log_softmax(teacher_logits.detach()), _log_softmax(student_logits)  # no gradient reaches the teacher


def _log_softmax(logits: Tensor) -> Tensor:
    # Half precision holds three digits: enough for logits, not for a sum of differences of logarithms.
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _mean_kl(p: Tensor, q: Tensor) -> Tensor:
    """1/B Σ_b Σ_c e^p (p − q) of log-probabilities, with 0 log 0 = 0, so that a masked name (−∞) adds nothing."""
    return (p.exp() * (p - q).masked_fill(p == -math.inf, 0.0)).sum(-1).mean()


@torch.no_grad()
def select_classes(teacher_logits: Tensor, k: int) -> LongTensor:
    """Class-agnostic KDPL: the k classes of highest mean probability in the batch, most probable first; (B, C) → (k,).

    Probabilities, not logits, are averaged: a class certain for one image beats one that is mediocre for all.

    >>> select_classes(torch.tensor([[9.0, 0, 8, 0], [0, 9, 0, 0], [0, 9, 0, 0]]), k=2).tolist()
    [1, 0]
    """
    return _log_softmax(teacher_logits).exp().mean(0).topk(k).indices


def mix_teachers(teacher_logits: Sequence[Tensor]) -> Tensor:
    """Several teachers as one: log of the mean of their probabilities, (B, C) each → (B, C), to be used as logits.

    Each teacher's scale or temperature is already in its logits.

    >>> confident, unsure = torch.tensor([[20.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    >>> [round(p, 2) for p in mix_teachers([confident, unsure]).softmax(-1)[0].tolist()]
    [0.75, 0.25]
    """
    return torch.stack([_log_softmax(z) for z in teacher_logits]).logsumexp(0) - math.log(len(teacher_logits))
