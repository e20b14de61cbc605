"""What an answer gave: whether two outcomes are one, what is wrong with one, and how it is shown in a line."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class WithGradients(NamedTuple):
    """A result, and the gradient that it sends to each leaf; None where none arrives."""

    result: Tensor
    gradients: tuple[Tensor | None, ...]


class Unanswered(Exception):
    """The function returned nothing."""


def draw(seed: int, *shape: int) -> Tensor:
    """Return standard normal numbers, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ask(function: Callable, *arguments):
    """Return the function's result, which has to be something."""
    if not callable(function):
        raise TypeError(f"'{type(function).__name__}' object is not a function")
    result = function(*arguments)
    if result is None or result is ...:
        raise Unanswered
    return result


def rebound(function: Callable, names: Mapping) -> Callable:
    """Return the same function, which finds other things under some of its global names."""
    if not names or not isinstance(function, types.FunctionType):
        return function
    scope = {**function.__globals__, **names}
    return types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)


def with_gradients(result, leaves: Sequence[Tensor]) -> WithGradients:
    """Send a gradient back to the leaves, through a weighted sum of the result."""
    if not getattr(result, "requires_grad", False):  # a detached tensor, or a plain number
        return WithGradients(result, (None,) * len(leaves))
    if not result.isfinite().all():  # its gradient depends on how the mistake was written
        return WithGradients(result, ())
    weights = torch.linspace(1, 2, result.numel()).reshape(result.shape)
    return WithGradients(result, torch.autograd.grad((result * weights).sum(), leaves, allow_unused=True))


def numbers(outcome) -> Tensor | None:
    """Return what an outcome holds, without its gradients; None where it holds no numbers."""
    try:
        return torch.as_tensor(getattr(outcome, "result", outcome)).detach().double()
    except (TypeError, ValueError, RuntimeError):
        return None


def same(a, b) -> bool:
    """Return whether two outcomes are one: numbers up to rounding, NaN and infinity alike, exceptions by their type."""
    if isinstance(a, Exception) or isinstance(b, Exception):
        return type(a) is type(b)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    x, y = numbers(a), numbers(b)
    if x is None or y is None:
        return a is b or (isinstance(a, str) and a == b)
    x, y = (z.where(z.isfinite(), torch.nan) for z in (x, y))
    return x.shape == y.shape and torch.allclose(x, y, rtol=1e-4, atol=1e-5, equal_nan=True)


def is_other_kind(outcome, expected) -> bool:
    """Return whether a list, say, stands where the lesson goes on with a tensor."""
    return isinstance(expected, Tensor) and expected.ndim > 0 and not isinstance(outcome, Tensor)


def fault(outcomes: list, expected: list, i: int) -> tuple[str, str]:
    """Return which generic mistake outcome i shows, and a detail for its sentence."""
    values, targets = list(map(numbers, outcomes)), list(map(numbers, expected))
    kind = type(outcomes[i]).__name__
    if isinstance(outcomes[i], Unanswered):
        return "returned None", ""
    if isinstance(outcomes[i], Exception):
        return "raises", kind
    if values[i] is None or is_other_kind(outcomes[i], expected[i]):
        return "another kind", f"{kind}, expected {type(expected[i]).__name__}"
    if values[i].shape != targets[i].shape:
        return "another shape", f"{tuple(values[i].shape)}, expected {tuple(targets[i].shape)}"
    if targets[i].isfinite().all() and not values[i].isfinite().all():
        return "not finite", ""
    if same(values[i], targets[i]):
        return "no gradient" if None in outcomes[i].gradients else "another gradient", ""
    n_numbers = sum(target.numel() for target in targets)
    factor = (values[i] * targets[i]).sum() / (targets[i] ** 2).sum()
    if n_numbers > 1 and all(v is not None and same(v, factor * target) for v, target in zip(values, targets)):
        return "constant factor", f"{factor:.3g}"
    return "another result", f"{i + 1} of {len(outcomes)}"


def short(outcome, digits: int = 4) -> str:
    """Return an outcome or an argument in one line: of a tensor the shape and the first numbers."""
    if isinstance(outcome, Exception):
        return f"{type(outcome).__name__}: {outcome}".splitlines()[0][:110]
    if isinstance(outcome, WithGradients):
        return f"{short(outcome.result, digits)}, gradients {short(outcome.gradients, digits)}"
    if isinstance(outcome, tuple):
        return "(" + ", ".join(short(part, digits) for part in outcome) + ")"
    if isinstance(outcome, float):
        return f"{outcome:.{digits}g}"
    if not isinstance(outcome, Tensor):
        is_plain = outcome is None or isinstance(outcome, str | int | list)
        return f"{outcome!r:.60}" if is_plain else f"a {type(outcome).__name__}"
    values = [f"{x:.{digits}g}" for x in outcome.detach().flatten()[:4].tolist()]
    more = " …" if outcome.numel() > 4 else ""
    return values[0] if outcome.ndim == 0 else f"{tuple(outcome.shape)} {' '.join(values)}{more}"
