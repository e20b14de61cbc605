"""Exercises of lesson 06: the names that a teacher picks for a batch, and whether the true ones are among them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import distill, evaluate
from .engine import Exercise, Mutant
from .helping import Stumble
from .outcomes import rebound
from .probes import draw

# --- names for a batch -----------------------------------------------------------------------------------------------

# A name that a notebook may have; the check binds it to data of its own.
student_logits = None


def _picked(function: Callable, logits: Tensor, k: int):
    """The picked indices; their order is free."""
    chosen = rebound(function, {"student_logits": draw(9, *logits.shape)})(logits, k)
    if chosen is None or chosen is ...:
        return None
    indices = torch.as_tensor(chosen)
    if indices.ndim == 1 and not indices.is_floating_point():
        return indices.sort().values if isinstance(chosen, Tensor) else sorted(indices.tolist())
    return chosen


def _selection_probes() -> list[tuple]:
    certain = torch.linspace(0, -0.6, 7).repeat(6, 1)  # no two are alike, so that any sorting gives one order
    certain[0, 4] = 12.0  # sure of a name for one picture
    certain[:, 2] = 2.5  # and half sure of another one for all
    certain[:, 5] = 2.4
    certain[1:, 4] = -9.0
    return [(3 * draw(0, 6, 9), 3), (certain, 2), (4 * draw(1, 5, 20), 4)]


select_classes = Exercise(
    lesson="06",
    name="select_classes",
    right=distill.select_classes,
    probes=_selection_probes,
    observe=_picked,
    observed="which indices were picked; their order is free",
    mutants={
        "top-k for each image": Mutant(
            "you pick k names for every picture; the batch needs one common list: average over the pictures first.",
            lambda logits, k: logits.topk(k).indices,
        ),
        "mean of logits": Mutant(
            "you average logits, where a certain answer for one picture drowns: average probabilities (softmax first).",
            lambda logits, k: logits.mean(0).topk(k).indices,
        ),
        "picked by the student": Mutant(
            "the student picks the names that it is taught: the teacher has to.",
            lambda logits, k: distill.select_classes(student_logits, k),
        ),
        "values for indices": Mutant(
            "you return the probabilities of the picked names, not their places: take .indices.",
            lambda logits, k: logits.softmax(-1).mean(0).topk(k).values,
        ),
        "softmax over the pictures": Mutant(
            "your softmax runs down the batch: each picture's probabilities sum to 1, dim=-1.",
            lambda logits, k: logits.softmax(0).mean(0).topk(k).indices,
        ),
        "the least probable": Mutant(
            "these are the least probable names: argsort goes upwards. Take descending=True, or topk.",
            lambda logits, k: logits.softmax(-1).mean(0).argsort()[:k],
        ),
        "largest in place of mean": Mutant(
            "you take each name's largest probability, so that one odd picture decides: take the mean over the batch.",
            lambda logits, k: logits.softmax(-1).amax(0).topk(k).indices,
        ),
        "counted first answers": Mutant(
            "you count first answers, so that a name that is often second is never picked: average the probabilities.",
            lambda logits, k: logits.argmax(-1).bincount(minlength=logits.shape[1]).topk(k).indices,
        ),
    },
    advice="softmax of each row, the mean over rows, the indices of the k largest.",
    hints=(
        "A name is worth keeping if the teacher gives it probability in this batch. How much, on average?",
        "teacher_logits.softmax(-1).mean(0).topk(k).indices",
    ),
    stumble=Stumble(
        "only one element tensors can be converted",
        "topk gives two things, values and indices: return .indices.",
        lambda logits, k: logits.softmax(-1).mean(0).topk(k),
    ),
    importance=3,
)


# --- the true ones among them ----------------------------------------------------------------------------------------


def _isin(a: Tensor, b: Tensor) -> Tensor:
    return torch.isin(a, b).double()


selection_recall = Exercise(
    lesson="06",
    name="selection_recall",
    right=evaluate.selection_recall,
    probes=lambda: [
        (torch.tensor([7, 9, 2, 1, 4]), torch.tensor([2, 2, 2, 4, 5])),
        (torch.tensor([0, 1]), torch.tensor([3, 1, 8, 8])),
    ],
    mutants={
        "precision": Mutant(
            "this is the share of picked names that are true (precision); recall is the share of true ones picked.",
            lambda selected, true: _isin(selected, true).mean(),
        ),
        "each picture counts": Mutant(
            "a class with many pictures counts many times: take the distinct true classes first.",
            lambda selected, true: _isin(true, selected).mean(),
        ),
        "a count": Mutant(
            "this is how many true classes were picked; divide by how many there are.",
            lambda selected, true: _isin(true.unique(), selected).sum(),
        ),
        "same places": Mutant(
            "you compare place by place; a true class counts wherever in the list it stands.",
            lambda selected, true: (selected == true).double().mean(),
        ),
        "sets of tensors": Mutant(
            "a set compares tensors as things, not by their numbers, so it finds none in common: .tolist() first.",
            lambda selected, true: len(set(selected) & set(true)) / len(set(true)),
        ),
    },
    advice="the distinct true classes; how many of them are among the selected; as a share.",
    hints=(
        "Recall asks of each true class: was it picked?",
        "torch.isin(true.unique(), selected).float().mean()",
    ),
    stumble=Stumble(
        "could not infer output dtype",
        "True and False have no mean: make them numbers first, .float().mean().",
        lambda selected, true: torch.isin(true.unique(), selected).mean(),
    ),
    importance=1,
)
