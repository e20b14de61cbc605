"""What supervises a step of training: labels, a teacher, a dictionary, labels and a teacher; and the controls."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .distill import select_classes, symmetric_kl
from .evaluate import check_scores
from .support.tensors import as_labels, as_numbers
from .support.values import seed_of, whole
from .towers.words import ClassNames, check_names

# What supervises: batch indices (B,) → the class names of the step, and logits (B, C) → the loss.
Supervision = Callable[[Tensor], tuple[ClassNames, Callable[[Tensor], Tensor]]]


def from_labels(labels: Tensor, classnames: Sequence[str]) -> Supervision:
    """Supervised: the cross-entropy of the labels (N,)."""
    names = check_names(classnames)
    labels = _checked_labels(labels, _several(names))
    return over_pictures(labels, lambda batch: (names, lambda z: F.cross_entropy(z, labels[batch])))


def from_teacher(teacher_logits: Tensor, classnames: Sequence[str]) -> Supervision:
    """KDPL: the teacher's logits (N, C) for the same names, no labels (section 3.2)."""
    names = check_names(classnames)
    teacher_logits = checked_logits(teacher_logits, _several(names))
    return over_pictures(teacher_logits, lambda batch: (names, lambda z: symmetric_kl(teacher_logits[batch], z)))


def from_dictionary(teacher_logits: Tensor, dictionary: Sequence[str], k: int) -> Supervision:
    """Class-agnostic KDPL: of the teacher's logits (N, dictionary), the k names most probable in the batch."""
    words = check_names(dictionary, dictionary=True)
    teacher_logits, k = checked_logits(teacher_logits, words), whole(k, "k", 2, len(_several(words)))

    def supervise(batch: Tensor) -> tuple[ClassNames, Callable[[Tensor], Tensor]]:
        target = teacher_logits[batch]
        return _among(select_classes(target, k), target, words)

    return over_pictures(teacher_logits, supervise)


def _among(chosen: Tensor, target: Tensor, words: ClassNames) -> tuple[ClassNames, Callable[[Tensor], Tensor]]:
    """A step in which teacher and student answer among the chosen names only: the student never sees the others."""
    chosen_names = ClassNames(words[i] for i in chosen.tolist())  # of checked names: need no check again
    return chosen_names, lambda z: symmetric_kl(target[:, chosen], z)


def from_both(labels: Tensor, known: Tensor, teacher_logits: Tensor, classnames: Sequence[str]) -> Supervision:
    """KDPL on all pictures plus the cross-entropy of those whose label is known, ``known`` (N,) of booleans."""
    names = check_names(classnames)
    teacher_logits = checked_logits(teacher_logits, _several(names))
    known = as_numbers(known, "known").cpu()
    if known.dtype != torch.bool or known.shape != teacher_logits.shape[:1]:
        raise ValueError(
            f"known is {tuple(known.shape)} of {known.dtype}: give {len(teacher_logits)} booleans, true for a picture "
            "whose label is known."
        )
    labels = _checked_labels(labels, names, known)

    def supervise(batch: Tensor) -> tuple[ClassNames, Callable[[Tensor], Tensor]]:
        has_label = known[batch].to(labels.device)

        def loss(z: Tensor) -> Tensor:
            distilled = symmetric_kl(teacher_logits[batch], z)
            if not has_label.any():  # a cross-entropy of no picture would be NaN
                return distilled
            return distilled + F.cross_entropy(z[has_label], labels[batch][has_label])

        return names, loss

    return over_pictures(teacher_logits, supervise)


# --- controls: what is left of KDPL without soft targets, without the right teacher, without its choice of names ------


def from_hard_teacher(teacher_logits: Tensor, classnames: Sequence[str]) -> Supervision:
    """The teacher's most probable name, of logits (N, C), as if it were the label: a teacher without soft targets."""
    names = check_names(classnames)
    return from_labels(checked_logits(teacher_logits, names).argmax(-1), names)


def from_shuffled_teacher(teacher_logits: Tensor, classnames: Sequence[str], seed: int) -> Supervision:
    """KDPL towards the answers (N, C) that the teacher gave to other pictures, in an order drawn by the seed."""
    names = check_names(classnames)
    teacher_logits = checked_logits(teacher_logits, names)
    order = torch.randperm(len(teacher_logits), generator=torch.Generator().manual_seed(seed_of(seed)))
    return from_teacher(teacher_logits[order.to(teacher_logits.device)], names)


def from_uniform_teacher(teacher_logits: Tensor, classnames: Sequence[str]) -> Supervision:
    """KDPL towards a teacher that finds all names of all pictures equally probable; logits (N, C) give the shape."""
    names = check_names(classnames)
    return from_teacher(torch.zeros_like(checked_logits(teacher_logits, names)), names)


def from_random_names(teacher_logits: Tensor, dictionary: Sequence[str], k: int, seed: int) -> Supervision:
    """Class-agnostic KDPL with k names of the dictionary drawn at random for each batch, in place of the teacher's.

    The same batch draws the same names, so that a training that was stopped goes on as if it had not been.
    """
    words = check_names(dictionary, dictionary=True)
    teacher_logits, k = checked_logits(teacher_logits, words), whole(k, "k", 2, len(_several(words)))
    seed = seed_of(seed)

    def supervise(batch: Tensor) -> tuple[ClassNames, Callable[[Tensor], Tensor]]:
        of_batch = zlib.crc32(batch.cpu().numpy().tobytes(), seed)
        drawn = torch.randperm(len(words), generator=torch.Generator().manual_seed(of_batch))
        return _among(drawn[:k].to(teacher_logits.device), teacher_logits[batch], words)

    return over_pictures(teacher_logits, supervise)


def from_pseudo_labels(student_logits: Tensor, classnames: Sequence[str], k: int = 16) -> Supervision:
    """The student's own labels: of each name, the k pictures it is most confident of (UPL, arXiv 2204.03649, 3.2).

    The loss is a mean over the pictures of the batch that have one; the others teach nothing.

    Args:
        student_logits: (N, C) of the student before training.
    """
    names = check_names(classnames)
    labels = pseudo_labels(checked_logits(student_logits, _several(names), "student"), whole(k, "k", 1))

    def supervise(batch: Tensor) -> tuple[ClassNames, Callable[[Tensor], Tensor]]:
        wanted = labels[batch]
        n_labelled = max(1, int((wanted >= 0).sum()))  # a mean of no picture would be NaN
        return names, lambda z: F.cross_entropy(z, wanted, ignore_index=-1, reduction="sum") / n_labelled

    return over_pictures(labels, supervise)


def pseudo_labels(logits: Tensor, k: int) -> Tensor:
    """(N,) the most probable name of the k most confident pictures of each name, -1 for the others; (N, C) → (N,).

    >>> pseudo_labels(torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), k=2).tolist()
    [0, -1, 0, 1]
    """
    if k < 1:
        raise ValueError(f"k = {k}: choose at least one picture of each name.")
    confidence, guess = logits.softmax(-1).max(-1)
    labels = torch.full_like(guess, -1)
    for name in guess.unique().tolist():
        rows = (guess == name).nonzero().flatten()
        best = confidence[rows].topk(min(k, len(rows))).indices
        labels[rows[best]] = name
    return labels


def over_pictures(rows: Tensor, supervise: Supervision) -> Supervision:
    """Let a supervision say over how many pictures it is: those of a training must be as many."""
    supervise.n_pictures = len(rows)
    return supervise


# --- what comes in -------------------------------------------------------------------------------------------------


def _several(names: ClassNames) -> ClassNames:
    if len(names) < 2:
        raise ValueError(
            f"{names[0]!r} is the only class name, so every answer is right and nothing is learned: give two."
        )
    return names


def _checked_labels(labels: Tensor, names: Sequence[str], used: Tensor | None = None) -> Tensor:
    """Labels (N,) as indices of the names; those that are not ``used`` may be anything."""
    labels = as_labels(labels)
    if used is not None and used.shape != labels.shape:
        raise ValueError(f"There are {len(labels)} labels for {len(used)} pictures: give one for each.")
    seen = labels if used is None else labels[used.to(labels.device)]
    if len(seen) and (seen.min() < 0 or seen.max() >= len(names)):
        raise ValueError(
            f"Labels lie in {int(seen.min())}…{int(seen.max())}, and there are {len(names)} class names: give indices "
            "of them; a picture without a label (-1) can be learned from with a teacher."
        )
    return labels


def checked_logits(given: Tensor, names: Sequence[str], whose: str = "teacher") -> Tensor:
    """A model's logits (N, C); −∞ is a name that it was not to give."""
    given = as_numbers(given, f"The {whose}'s logits", "numbers, a row for each picture").detach()
    if given.ndim != 2 or given.shape[1] != len(names) or not len(given):
        raise ValueError(
            f"The {whose}'s logits are {tuple(given.shape)}, and there are {len(names)} names: give (N, "
            f"{len(names)}), a column for each name in the same order."
        )
    if given.dtype == torch.bool:
        raise ValueError(f"The {whose}'s logits are booleans: give numbers, as kd.logits does.")
    check_scores(given, f"The {whose}'s logits")
    return given if given.is_floating_point() else given.float()
