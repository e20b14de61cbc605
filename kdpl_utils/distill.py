"""Teacher and student logits → a loss, and the choice of classes: what KDPL adds to prompt learning.

KDPL: Improving Zero-shot Generalization of Learned Prompts via Unsupervised Knowledge Distillation, ECCV 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import LongTensor, Tensor

from .support.tensors import check_tensor
from .support.values import real, whole


def _log_softmax(logits: Tensor) -> Tensor:
    # Half precision holds three digits: enough for logits, not for a sum of differences of logarithms.
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _pair(teacher_logits: Tensor, student_logits: Tensor) -> tuple[Tensor, Tensor]:
    check_tensor(teacher_logits, "The teacher's logits")
    check_tensor(student_logits, "The student's logits")
    if teacher_logits.shape != student_logits.shape or student_logits.ndim != 2 or not student_logits.numel():
        raise ValueError(
            "Teacher and student logits must be (B, C) for the same images and the same classes in the same order, "
            f"not {tuple(teacher_logits.shape)} and {tuple(student_logits.shape)}."
        )
    return _log_softmax(teacher_logits.detach()), _log_softmax(student_logits)  # nothing ever teaches the teacher


def _mean_kl(p: Tensor, q: Tensor) -> Tensor:
    """1/B Σ_b Σ_c e^p (p − q) of log-probabilities, with 0 log 0 = 0: a masked name (−∞) adds nothing, and no NaN."""
    return (p.exp() * (p - q).masked_fill(p == -math.inf, 0.0)).sum(-1).mean()


def forward_kl(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(t‖s) = 1/B Σ_b Σ_c t (log t − log s), mass-covering; (B, C), (B, C) → scalar; gradient (s − t)/B.

    >>> forward_kl(torch.zeros(3, 4), torch.ones(3, 4)).item()  # a constant per image changes no distribution
    0.0
    """
    return _mean_kl(*_pair(teacher_logits, student_logits))


def reverse_kl(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(s‖t) = 1/B Σ_b Σ_c s (log s − log t), mode-seeking; (B, C), (B, C) → scalar."""
    t, s = _pair(teacher_logits, student_logits)
    return _mean_kl(s, t)


def symmetric_kl(teacher_logits: Tensor, student_logits: Tensor, alpha: float = 0.5) -> Tensor:
    """KDPL's loss, alpha·KL(t‖s) + (1 − alpha)·KL(s‖t); (B, C), (B, C) → scalar; ½ is the published weight."""
    alpha = real(alpha, "alpha", 0, 1)
    forward, reverse = forward_kl(teacher_logits, student_logits), reverse_kl(teacher_logits, student_logits)
    return alpha * forward + (1 - alpha) * reverse


@torch.no_grad()
def select_classes(teacher_logits: Tensor, k: int) -> LongTensor:
    """The k classes of highest mean probability in the batch, most probable first; (B, C) → (k,) (class-agnostic KDPL).

    Probabilities, not logits, are averaged: a class certain for one image beats one that is mediocre for all.

    >>> select_classes(torch.tensor([[9.0, 0, 8, 0], [0, 9, 0, 0], [0, 9, 0, 0]]), k=2).tolist()
    [1, 0]
    """
    if check_tensor(teacher_logits, "The teacher's logits").ndim != 2 or not len(teacher_logits):
        raise ValueError(f"Teacher logits must be (B, C) with at least one image, not {tuple(teacher_logits.shape)}.")
    k = whole(k, "k", 0)
    if not 1 <= k <= teacher_logits.shape[1]:
        raise ValueError(f"k must lie between 1 and the {teacher_logits.shape[1]} classes to choose from, not {k}.")
    probability = _log_softmax(teacher_logits).exp().mean(0)  # (C,)
    if probability.isnan().any():  # which topk ranks first
        raise ValueError("The teacher's logits are not finite for an image of this batch: no class can be chosen.")
    return probability.topk(k).indices


def mix_teachers(teacher_logits: Sequence[Tensor]) -> Tensor:
    """Several teachers as one: log of the mean of their probabilities, (B, C) each → (B, C), to be used as logits.

    Each teacher's scale or temperature is already in its logits.

    >>> sure, unsure = torch.tensor([[20.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    >>> [round(p, 2) for p in mix_teachers([sure, unsure]).softmax(-1)[0].tolist()]
    [0.75, 0.25]
    """
    if isinstance(teacher_logits, Mapping):
        raise ValueError("The teachers are a dict: give a list of their logits, list(teachers.values()).")
    teacher_logits = list(teacher_logits)
    if not teacher_logits:
        raise ValueError("A mixture needs the logits of at least one teacher.")
    shapes = {tuple(check_tensor(z, "A teacher's logits").shape) for z in teacher_logits}
    if len(shapes) > 1 or len(next(iter(shapes))) != 2:
        raise ValueError(
            f"A mixture needs a list of logits (B, C), one for each teacher, of the same images and classes, not of "
            f"shapes {', '.join(map(str, sorted(shapes)))}."
        )
    logs = torch.stack([_log_softmax(z) for z in teacher_logits])
    mixed = logs.logsumexp(0) - math.log(len(logs))
    if mixed.isnan().any():
        raise ValueError("The logits of a teacher are not finite: look at its features and its precision.")
    return mixed
