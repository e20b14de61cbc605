"""Lesson 06: the names that a teacher picks for a batch, and whether the true ones are among them."""

import torch
from torch import Tensor

from .. import distill, evaluate
from .engine import Exercise
from .outcomes import ask, draw


def probes():
    certain = torch.linspace(0, -0.6, 7).repeat(6, 1)  # no two are alike, so that any sorting gives one order
    certain[0, 4] = 12.0  # confident of a name for one picture
    certain[:, 2] = 2.5  # and half confident of another one for all
    certain[:, 5] = 2.4
    certain[1:, 4] = -9.0
    return [(3 * draw(0, 6, 9), 3), (certain, 2), (4 * draw(1, 5, 20), 4)]


def picked(function, logits, k):
    """Return the picked indices in ascending order: theirs is free."""
    chosen = ask(function, logits, k)
    is_index = isinstance(chosen, Tensor) and chosen.ndim == 1 and not chosen.is_floating_point()
    return chosen.sort().values if is_index else chosen


select_classes = Exercise(
    "select_classes",
    distill.select_classes,
    probes,
    {
        "top-k for each image": lambda logits, k: logits.topk(k).indices,
        "mean of logits": lambda logits, k: logits.mean(0).topk(k).indices,
        "values for indices": lambda logits, k: logits.softmax(-1).mean(0).topk(k).values,
        "largest in place of mean": lambda logits, k: logits.softmax(-1).amax(0).topk(k).indices,
    },
    observe=picked,
)

selection_recall = Exercise(
    "selection_recall",
    evaluate.selection_recall,
    lambda: [(torch.tensor([7, 9, 2, 1, 4]), torch.tensor([2, 2, 2, 4, 5]))],
    {
        "precision": lambda selected, true: torch.isin(selected, true).float().mean(),
        "each picture counts": lambda selected, true: torch.isin(true, selected).float().mean(),
    },
)
