"""What supervises training: labels, a teacher, a dictionary. Each function returns a loss for ``fit``.

A loss has one shape everywhere: ``loss(learner, batch)`` → scalar, with ``batch`` the indices (B,) of the pictures.
``inputs`` are unit features (N, D), or ``ImageBatches`` for learners with visual prompts. Controls are changed logits:
shuffle ``teacher_logits``, set them to 0, or call ``from_labels(inputs, teacher_logits.argmax(-1), names)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor
from torch.nn import functional as F

from .clip.words import ClassNames, check_names
from .distill import select_classes, symmetric_kl

if TYPE_CHECKING:
    from .clip.batches import ImageBatches
    from .learners import Learner
    from .prompts import PromptLearner

    Loss = Callable[[Learner | PromptLearner, Tensor], Tensor]
    Inputs: TypeAlias = Tensor | ImageBatches


def from_labels(inputs: Inputs, labels: Tensor, names: Sequence[str]) -> Loss:
    """CoOp: the cross-entropy of the labels (N,)."""
    names = check_names(names)
    check_same_pictures(inputs, labels)
    check_labels(labels, names)
    return lambda learner, batch: learner.loss(inputs[batch], names, lambda z: F.cross_entropy(z, labels[batch]))


def from_teacher(inputs: Inputs, teacher_logits: Tensor, names: Sequence[str]) -> Loss:
    """KDPL: the symmetric KL to the teacher's logits (N, C) for the same names, no labels (section 3.2)."""
    names = check_names(names)
    check_same_pictures(inputs, teacher_logits)
    return lambda learner, batch: learner.loss(inputs[batch], names, lambda z: symmetric_kl(teacher_logits[batch], z))


def from_dictionary(inputs: Inputs, teacher_logits: Tensor, dictionary: Sequence[str], k: int) -> Loss:
    """Class-agnostic KDPL: of the teacher's logits (N, dictionary), the k names most probable in the batch."""
    return from_names(inputs, teacher_logits, dictionary, lambda batch: select_classes(teacher_logits[batch], k))


def from_names(inputs: Inputs, teacher_logits: Tensor, dictionary: Sequence[str], pick: Callable) -> Loss:
    """The symmetric KL among the names that ``pick(batch)`` → (k,) chooses; logits (N, dictionary)."""
    words = check_names(dictionary, dictionary=True)
    check_same_pictures(inputs, teacher_logits)
    if teacher_logits.shape[1] != len(words):  # a column would silently stand for another name
        raise ValueError(f"The teacher's logits have {teacher_logits.shape[1]} columns for {len(words)} names.")

    def loss(learner: Learner, batch: Tensor) -> Tensor:
        chosen = pick(batch)
        names = ClassNames([words[i] for i in chosen.tolist()])
        return learner.loss(inputs[batch], names, lambda z: symmetric_kl(teacher_logits[batch][:, chosen], z))

    return loss


def from_both(inputs: Inputs, labels: Tensor, known: Tensor, teacher_logits: Tensor, names: Sequence[str]) -> Loss:
    """KDPL on all pictures plus the cross-entropy of those whose label is known, ``known`` (N,) of booleans."""
    names = check_names(names)
    check_same_pictures(inputs, teacher_logits)
    known = known.bool().to(labels.device)
    check_labels(labels[known], names)

    def loss(learner: Learner, batch: Tensor) -> Tensor:
        has_label = known[batch]

        def of_logits(z: Tensor) -> Tensor:
            distilled = symmetric_kl(teacher_logits[batch], z)
            if not has_label.any():  # a cross-entropy of no picture would be NaN
                return distilled
            return distilled + F.cross_entropy(z[has_label], labels[batch][has_label])

        return learner.loss(inputs[batch], names, of_logits)

    return loss


def check_same_pictures(inputs: Inputs, supervision: Tensor) -> None:
    """Refuse labels or logits of other pictures: an index would silently mean two things."""
    if len(inputs) != len(supervision):
        raise ValueError(
            f"The supervision covers {len(supervision)} images, but {len(inputs)} were given; they must match in "
            "number and order."
        )


def check_labels(labels: Tensor, names: Sequence[str]) -> None:
    """Refuse labels that are no index of the names."""
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(names)):
        raise ValueError(
            f"Labels range from {int(labels.min())} to {int(labels.max())}, and there are {len(names)} class names: "
            "renumber them; learn from images without a label (-1) with a teacher."
        )
