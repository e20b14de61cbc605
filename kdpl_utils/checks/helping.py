"""What a learner finds folded under an exercise: what comes out, the error that many meet, two hints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from .outcomes import short


class Stumble(NamedTuple):
    """An error that a learner will really meet: words of its message, what they mean, and code that raises it."""

    message: str
    sentence: str
    function: Callable


@dataclass(frozen=True)
class Help:
    """All that stands beside and below an exercise, but its solution."""

    minutes: int
    importance: int  # of 3
    expected: Sequence[str]
    error: str
    cause: str
    hints: tuple[str, str]


def help_of(exercise) -> Help:
    """The help of an exercise; what is expected, the library's own version gives on the check's probes."""
    expected = []
    for probe, outcome in zip(exercise.probes(), exercise.outcomes(exercise.right)):
        arguments = ", ".join(given(argument) for argument in probe)
        expected.append(f"{exercise.name}({arguments})  →  {short(outcome, digits=3)}")
    if exercise.observed:
        expected.append(f"compared is {exercise.observed}")
    message, sentence, _ = exercise.stumble
    return Help(exercise.minutes, exercise.importance, expected, message, sentence, exercise.hints)


def given(argument) -> str:
    """An argument of a probe in few words: the shape of a tensor, other things as they are."""
    if isinstance(argument, Tensor):
        is_short_list = argument.ndim == 1 and len(argument) <= 6 and not argument.is_floating_point()
        if argument.ndim == 0:
            return short(argument, digits=3)
        return str(argument.tolist()) if is_short_list else f"tensor {tuple(argument.shape)}"
    if isinstance(argument, str | int | float | list):
        return repr(argument)
    return f"a {type(argument).__name__}"
