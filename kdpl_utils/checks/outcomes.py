"""What an answer gave: whether two outcomes are one, how one is shown, and a function tried on other data."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping

import torch


def same(a, b) -> bool:
    """Whether two outcomes are one: numbers up to rounding, NaN and infinity alike, exceptions by their type."""
    if isinstance(a, Exception) or isinstance(b, Exception):
        return type(a) is type(b)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    try:
        a, b = (torch.as_tensor(x).detach().double() for x in (a, b))
    except (TypeError, ValueError, RuntimeError):  # of None and other things that hold no numbers
        return a is b
    a, b = (x.where(x.isfinite(), torch.nan) for x in (a, b))
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def is_no_tensor(outcome, expected) -> bool:
    """Whether a list (or what else holds numbers) stands where the lesson goes on with a tensor."""
    return isinstance(expected, torch.Tensor) and expected.ndim > 0 and not isinstance(outcome, torch.Tensor)


# The errors that a learner meets most, and what to look at then.
ERRORS = {
    "NameError": "a name that is not known: use the arguments, import it, or spell it as the notebook does.",
    "AttributeError": "an object that has no such thing: print(type(x)) before that line, and look for a return.",
    "IndexError": "an index beyond the end, or of an axis that is not there: print(x.shape) before that line.",
    "RuntimeError": "shapes or types that do not fit: print the .shape of both sides before that line.",
    "ValueError": "the function that refused says why above; print what you handed to it.",
}


# Words of a message that mean the same in every exercise.
MESSAGES = {
    "could not infer output dtype": "True and False have no mean: make them numbers first, .float().mean().",
    "must match the size of tensor": "sizes do not line up: keep a summed axis (keepdim=True), or add one, x[:, None].",
    "Boolean value of Tensor": "an if asks one question, and this is a tensor of answers: .any(), .all(), or x[mask].",
    "object is not callable": "round brackets call a function; a tensor is asked with square ones, x[i].",
}


def advice_for(error: Exception, otherwise: str) -> str:
    """What to look at where a learner's code raises."""
    for words, advice in MESSAGES.items():
        if words in str(error):
            return advice
    return ERRORS.get(type(error).__name__, otherwise)


def short(outcome, digits: int = 4) -> str:
    """An outcome in one line: the shape and the first numbers."""
    if outcome is None:
        return "None"
    if isinstance(outcome, Exception):
        line = f"{type(outcome).__name__}: {outcome}".splitlines()[0]
        return line if len(line) <= 110 else line[:109] + "…"
    if isinstance(outcome, tuple | list):
        return "(" + ", ".join(short(part, digits) for part in outcome) + ")"
    if isinstance(outcome, float | int):
        return f"{outcome:.{digits}g}"
    if not isinstance(outcome, torch.Tensor):
        return f"{str(outcome)[:40]} ({type(outcome).__name__})"
    numbers = [f"{x:.{digits}g}" for x in outcome.detach().flatten()[:4].tolist()]
    more = " …" if outcome.numel() > 4 else ""
    return numbers[0] if outcome.ndim == 0 else f"{tuple(outcome.shape)} {' '.join(numbers)}{more}"


def rebound(function: Callable, names: Mapping) -> Callable:
    """The same function, which finds other things under global names: a closure is tried on data of the check's own."""
    if not isinstance(function, types.FunctionType):
        return function
    scope = {**function.__globals__, **names}
    return types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
