"""The bug museum of lesson 04: four mistakes that were published, to be named from their curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..distill import forward_kl
from ..train import Recipe, fit
from .engine import RIGHT, SENTENCES, give_hint, record_of
from .lesson04 import BUGS

EXHIBITS: dict[str, Callable] = dict(zip("ABCD", BUGS.values()))
RECIPE = Recipe(epochs=8, lr=0.01, weight_decay=0.0)
TEACHER_SPEED = 30.0  # a wrong loss may move the teacher, and then about as fast as the student


def exhibit(
    loss: Callable, features: Tensor, text_features: Tensor, teacher_logits: Tensor, scale: float
) -> tuple[list[float], list[float]]:
    """Train a student, one matrix (C, D), with a loss (teacher's logits of all pictures, student's of a batch, batch).

    Returns:
        After each epoch the mean of the loss as the loop reports it, and the true KL from the teacher in nats.
    """
    # The teacher's logits could move if a loss let them.
    tensors = {"student": text_features.clone(), "teacher": teacher_logits / TEACHER_SPEED}
    pair = nn.ParameterDict({name: nn.Parameter(tensor.detach()) for name, tensor in tensors.items()})

    def loss_of(pair: nn.ParameterDict, batch: Tensor) -> Tensor:
        return loss(TEACHER_SPEED * pair["teacher"], scale * features[batch] @ pair["student"].T, batch)

    def true_kl(pair: nn.ParameterDict) -> dict[str, float]:
        return {"true": forward_kl(teacher_logits, scale * features @ pair["student"].T).item()}

    history = fit(pair, loss_of, len(features), RECIPE, on_epoch=true_kl, progress=False)
    return torch.tensor(history.loss).reshape(RECIPE.epochs, -1).mean(1).tolist(), history.metrics["true"]


def bug_museum(answers: Mapping[str, str | None]) -> None:
    """Print of each exhibit whether its bug was named; ``answers`` maps a letter to a bug's name, or to None."""
    told = SENTENCES["exercises"]["bug_museum"]["mistakes"]
    right = dict(zip(EXHIBITS, BUGS))
    named = {letter: answers.get(letter) for letter in right}
    wrong = {letter: name for letter, name in named.items() if name not in (None, right[letter])}
    status = RIGHT if named == right else "not all named yet" if any(named.values()) else "not attempted"
    record = record_of("bug_museum", "04")
    record.update(status=status, attempts=record["attempts"] + any(named.values()))
    record["mistake"] = ", ".join(f"{letter}: {name}" for letter, name in wrong.items()) or None
    for letter, name in named.items():
        if name is None:
            print(f"○ {letter}: not named yet.")
        elif name not in told:
            print(f"✗ {name!r} is no bug of this museum. Choose among: {', '.join(told)}.")
        elif letter in wrong:
            print(f"✗ {letter} is not {name!r}: {told[name]['curve']}.")
        else:
            print(f"✓ {letter}: {name}. Published: {told[name]['published']}")


bug_museum.hint = lambda depth=0: give_hint("bug_museum", "04", depth)
