"""What supervises a step of training: labels, a teacher, a teacher over a dictionary, or labels and a teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F

from .distill import select_classes, symmetric_kl

# What supervises: batch indices (B,) → the class names of the step, and logits (B, C) → the loss.
Task = Callable[[Tensor], tuple[Sequence[str], Callable[[Tensor], Tensor]]]


def from_labels(labels: Tensor, classnames: Sequence[str]) -> Task:
    """Supervised: the cross-entropy of the labels (N,)."""
    return lambda batch: (classnames, lambda z: F.cross_entropy(z, labels[batch]))


def from_teacher(teacher_logits: Tensor, classnames: Sequence[str]) -> Task:
    """KDPL: the teacher's logits (N, C) for the same names, no labels (section 3.2)."""
    return lambda batch: (classnames, lambda z: symmetric_kl(teacher_logits[batch], z))


def from_dictionary(teacher_logits: Tensor, dictionary: Sequence[str], k: int) -> Task:
    """Class-agnostic KDPL: of the teacher's logits (N, dictionary), the k names most probable in the batch."""

    def task(batch: Tensor) -> tuple[list[str], Callable[[Tensor], Tensor]]:
        target = teacher_logits[batch]
        chosen = select_classes(target, k)
        return [dictionary[i] for i in chosen.tolist()], lambda z: symmetric_kl(target[:, chosen], z)

    return task


def from_both(labels: Tensor, known: Tensor, teacher_logits: Tensor, classnames: Sequence[str]) -> Task:
    """KDPL on all pictures plus the cross-entropy of those whose label is known, ``known`` (N,) of booleans."""

    def task(batch: Tensor) -> tuple[Sequence[str], Callable[[Tensor], Tensor]]:
        has = known[batch].to(labels.device)

        def loss(z: Tensor) -> Tensor:
            distilled = symmetric_kl(teacher_logits[batch], z)
            return distilled + F.cross_entropy(z[has], labels[batch][has]) if has.any() else distilled

        return classnames, loss

    return task
