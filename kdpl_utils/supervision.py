"""What supervises a step of training: labels, a teacher, a teacher over a dictionary, or labels and a teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F

from .distill import select_classes, symmetric_kl
from .vlm import ClassNames, check_names

# What supervises: batch indices (B,) → the class names of the step, and logits (B, C) → the loss.
Supervision = Callable[[Tensor], tuple[ClassNames, Callable[[Tensor], Tensor]]]


def from_labels(labels: Tensor, classnames: Sequence[str]) -> Supervision:
    """Supervised: the cross-entropy of the labels (N,)."""
    names = check_names(classnames)
    return lambda batch: (names, lambda z: F.cross_entropy(z, labels[batch]))


def from_teacher(teacher_logits: Tensor, classnames: Sequence[str]) -> Supervision:
    """KDPL: the teacher's logits (N, C) for the same names, no labels (section 3.2)."""
    names = check_names(classnames)
    return lambda batch: (names, lambda z: symmetric_kl(teacher_logits[batch], z))


def from_dictionary(teacher_logits: Tensor, dictionary: Sequence[str], k: int) -> Supervision:
    """Class-agnostic KDPL: of the teacher's logits (N, dictionary), the k names most probable in the batch."""
    words = check_names(dictionary)

    def supervise(batch: Tensor) -> tuple[ClassNames, Callable[[Tensor], Tensor]]:
        target = teacher_logits[batch]
        # Teacher and student answer among the chosen names only: the student never sees the others.
        chosen = select_classes(target, k)
        chosen_names = ClassNames(words[i] for i in chosen.tolist())  # of checked names: need no check again
        return chosen_names, lambda z: symmetric_kl(target[:, chosen], z)

    return supervise


def from_both(labels: Tensor, known: Tensor, teacher_logits: Tensor, classnames: Sequence[str]) -> Supervision:
    """KDPL on all pictures plus the cross-entropy of those whose label is known, ``known`` (N,) of booleans."""
    names = check_names(classnames)

    def supervise(batch: Tensor) -> tuple[ClassNames, Callable[[Tensor], Tensor]]:
        has_label = known[batch].to(labels.device)

        def loss(z: Tensor) -> Tensor:
            distilled = symmetric_kl(teacher_logits[batch], z)
            if not has_label.any():  # a cross-entropy of no picture would be NaN
                return distilled
            return distilled + F.cross_entropy(z[has_label], labels[batch][has_label])

        return names, loss

    return supervise
