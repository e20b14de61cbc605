"""Controls of KDPL that need more than changed logits: the student's own labels, and names drawn at random."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ..clip.words import check_names
from ..supervision import from_names

if TYPE_CHECKING:
    from ..learners import Learner
    from ..supervision import Inputs, Loss


def from_random_names(inputs: Inputs, teacher_logits: Tensor, dictionary: Sequence[str], k: int, seed: int) -> Loss:
    """Control of class-agnostic KDPL: k names drawn at random for each batch. The same batch draws the same names."""

    def draw(batch: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(zlib.crc32(batch.cpu().numpy().tobytes(), seed))
        return torch.randperm(len(dictionary), generator=generator)[:k].to(teacher_logits.device)

    return from_names(inputs, teacher_logits, dictionary, draw)


def from_pseudo_labels(inputs: Inputs, student_logits: Tensor, names: Sequence[str], k: int = 16) -> Loss:
    """The student's own labels: of each name, the k pictures it is most confident of (UPL, arXiv 2204.03649, 3.2).

    The loss is a mean over the pictures of the batch that have one; the others teach nothing.

    Args:
        student_logits: (N, C) of the student before training.
    """
    names = check_names(names)
    labels = pseudo_labels(student_logits, k)

    def loss(learner: Learner, batch: Tensor) -> Tensor:
        wanted = labels[batch]
        n_labelled = max(1, int((wanted >= 0).sum()))  # a mean of no picture would be NaN
        cross_entropy = lambda z: F.cross_entropy(z, wanted, ignore_index=-1, reduction="sum") / n_labelled  # noqa: E731
        return learner.loss(inputs[batch], names, cross_entropy)

    return loss


def pseudo_labels(logits: Tensor, k: int) -> Tensor:
    """(N,) the most probable name of the k most confident pictures of each name, −1 for the others; (N, C) → (N,).

    >>> pseudo_labels(torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), k=2).tolist()
    [0, -1, 0, 1]
    """
    confidence, guess = logits.softmax(-1).max(-1)
    labels = torch.full_like(guess, -1)
    for name in guess.unique().tolist():
        rows = (guess == name).nonzero().flatten()
        best = confidence[rows].topk(min(k, len(rows))).indices
        labels[rows[best]] = name
    return labels
