"""The bug museum of lesson 04: four mistakes that were published, to be named from their curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..distill import forward_kl
from ..support.values import shown
from ..train import Recipe, fit
from .distilling import no_logarithm, other_order, swapped, with_itself
from .engine import RECORDS, RIGHT, first_record, give_hint
from .helping import Help

EXHIBITS: dict[str, Callable] = {"A": other_order, "B": swapped, "C": no_logarithm, "D": with_itself}
# Of each bug: its loss, what its curves look like, and where it was published.
BUGS = {
    "roles swapped": (
        swapped,
        "the reported loss would fall while the student stays where it was",
        "https://github.com/keras-team/keras-io/issues/257",
    ),
    "teacher compared with itself": (
        with_itself,
        "the reported loss would be 0 from the first step on",
        "https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/66",
    ),
    "batches in another order": (
        other_order,
        "the student would move away from the teacher, and the reported loss would stay high",
        "https://github.com/haitongli/knowledge-distillation-pytorch/pull/16",
    ),
    "softmax for log-softmax": (
        no_logarithm,
        "the reported loss would lie below zero, where no KL can be",
        "https://github.com/microsoft/ProDA/issues/20",
    ),
}
HELP = Help(
    minutes=8,
    importance=2,
    expected=[f"✓ {letter}: <the name>. Published: <an address>" for letter in EXHIBITS],
    error="is no bug of this museum",
    cause="the names are those of the task, letter by letter and in quotation marks.",
    hints=(
        "Three questions part them: is the reported loss zero, is it below zero, does the true KL move at all?",
        "No KL is below zero. A student that does not occur cannot move. Other pictures' answers teach, but wrongly.",
    ),
)
NOT_TRIED = "not attempted"
RECIPE = Recipe(epochs=8, lr=0.01, weight_decay=0.0)
TEACHER_SPEED = 30.0  # a wrong loss may move the teacher, and then about as fast as the student


class Pair(nn.Module):
    """A student that is one matrix (C, D), and a teacher whose logits (N, C) could move if a loss let them."""

    def __init__(self, features: Tensor, text_features: Tensor, teacher_logits: Tensor, scale: float):
        super().__init__()
        self.features, self.scale = features, float(scale)
        self.matrix = nn.Parameter(text_features.detach().clone())
        self.stored = nn.Parameter(teacher_logits.detach() / TEACHER_SPEED)

    def student(self, batch: Tensor | slice = slice(None)) -> Tensor:
        return self.scale * self.features[batch] @ self.matrix.T

    def teacher(self) -> Tensor:
        return TEACHER_SPEED * self.stored


def exhibit(
    loss: Callable, features: Tensor, text_features: Tensor, teacher_logits: Tensor, scale: float
) -> tuple[list[float], list[float]]:
    """Train a student with a loss (teacher's logits of all pictures, student's of the batch, batch).

    Returns:
        After each epoch the mean of the loss as the loop reports it, and the true KL from the teacher in nats.
    """
    pair = Pair(features, text_features, teacher_logits, scale)

    def true_kl(epoch: int) -> dict[str, float]:
        return {"true": forward_kl(teacher_logits, pair.student()).item()}

    history = fit(
        pair,
        lambda batch: loss(pair.teacher(), pair.student(batch), batch),
        len(features),
        RECIPE,
        on_epoch=true_kl,
        progress=False,
    )
    return torch.tensor(history.loss).reshape(RECIPE.epochs, -1).mean(1).tolist(), history.metrics["true"]


def bug_museum(answers: Mapping[str, str | None]) -> None:
    """Say of each exhibit whether its bug was named; ``answers`` maps a letter to one of ``BUGS``, or to None."""
    if not isinstance(answers, Mapping):
        print(f"✗ bug_museum: {shown(answers)} names no exhibit: give a dictionary, such as {{'A': 'roles swapped'}}.")
        return
    known = [None, *BUGS]
    unknown = [name for name in answers.values() if name not in known]
    if unknown:
        print(f"✗ bug_museum: {unknown[0]!r} is no bug of this museum. Choose among: {', '.join(BUGS)}.")
        return
    record = RECORDS.setdefault("bug_museum", first_record("04", NOT_TRIED))
    named = {letter: answers.get(letter) for letter in EXHIBITS}
    wrong = [letter for letter, name in named.items() if name and BUGS[name][0] is not EXHIBITS[letter]]
    missing = [letter for letter, name in named.items() if not name]
    record["attempts"] += len(missing) < len(EXHIBITS)
    record["status"] = "not all named yet" if wrong or missing else RIGHT
    record["mistake"] = ", ".join(f"{letter}: {named[letter]}" for letter in wrong) or None
    if len(missing) == len(EXHIBITS):
        record["status"] = NOT_TRIED
    for letter, name in named.items():
        if letter in wrong:
            print(f"✗ {letter} is not {name!r}: {BUGS[name][1]}.")
        elif name:
            print(f"✓ {letter}: {name}. Published: {BUGS[name][2]}")
        else:
            print(f"○ {letter}: not named yet.")


def hint(depth: int = 1) -> None:
    """Print the small hint (1) or the large one (2), as every exercise does."""
    give_hint(RECORDS.setdefault("bug_museum", first_record("04", NOT_TRIED)), HELP.hints, depth)


bug_museum.hint = hint
