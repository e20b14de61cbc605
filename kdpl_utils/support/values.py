"""Numbers that come in from outside: plain ones of Python, in their range, or one sentence."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from pathlib import PurePath

MOST_SHOWN = 60  # letters of a value in a sentence
MOST_SEED = 2**62  # what every generator used here takes, with room for those that add to it


def shown(value: object) -> str:
    """A value as a sentence shows it: on one line, and only its beginning if it is long.

    >>> shown("a\\nb"), shown(range(3)), shown([1.5] * 99)
    ("'a\\\\nb'", 'range(0, 3)', '[1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.…')
    """
    line = " ".join(repr(value).split())
    return line if len(line) <= MOST_SHOWN else line[: MOST_SHOWN - 1] + "…"


def whole(value: object, what: str, least: int, most: int | None = None) -> int:
    """A whole number as Python's own, whichever library it comes from; ``what`` is its name in the sentence.

    Raises:
        ValueError: not a whole number, or out of range.
    """
    number = _integer(value)
    if number is None or number < least or (most is not None and number > most):
        wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{what} is {shown(value)}: give a whole number {wanted}.")
    return number


def _integer(value: object) -> int | None:
    if isinstance(value, bool | str | bytes):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError):
        pass  # 3.0 is whole, too
    try:
        return int(value) if float(value).is_integer() else None
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def real(value: object, what: str, low: float, high: float = math.inf, above: bool = False) -> float:
    """A finite number as Python's own, from ``low`` (or only above it) to ``high``.

    Raises:
        ValueError: not a number, not finite, or out of range.
    """
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if not math.isfinite(number) or number < low or number > high or (above and number == low):
        start = f"above {low:g}" if above else f"of at least {low:g}"
        end = "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{what} is {shown(value)}: give a number {start}{end}.")
    return value if type(value) is int else number


def yes_or_no(value: object, what: str) -> bool:
    """A truth as Python's own: NumPy's are others, and every text is true.

    Raises:
        ValueError: neither true nor false.
    """
    try:
        number = None if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = None
    if number not in (0.0, 1.0):
        raise ValueError(f"{what} is {shown(value)}: give True or False.")
    return bool(number)


def seed_of(value: object, what: str = "seed") -> int:
    """A seed that every generator takes.

    Raises:
        ValueError: not a whole number, negative, or beyond ``MOST_SEED``.
    """
    return whole(value, what, 0, MOST_SEED)


def by_name(given: object, what: str) -> Mapping:
    """What a function of somebody's gives by name; nothing where it gives None.

    Raises:
        ValueError: it is no dictionary.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"{what} gives {shown(given)}: let it give a dictionary of numbers by name, or None.")
    return given or {}


def listed(value: object) -> list:
    """One thing as a list of it, several as a list of them.

    >>> listed("coop"), listed(3), listed(("a", "b"))
    (['coop'], [3], ['a', 'b'])
    """
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]


def plain(value: object, what: str) -> object:
    """A setting as a file can hold it: numbers and arrays of NumPy or PyTorch become Python's.

    Raises:
        ValueError: it is, or holds, something that no file of settings can.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, PurePath | str):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(one, what) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(one, what) for one in value) if type(value) is tuple else [plain(one, what) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), what)
    raise ValueError(f"{what} is a {type(value).__name__}, which no file can hold: give a number, a text or a list.")
