"""The model card that ``kdpl adapt`` writes: ``page/card.md``, filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from ..support.disk import atomic_write, digest

CARD = Path(__file__).with_name("page") / "card.md"
SEAL = "<!-- kdpl adapt replaces this page as long as nobody has changed it: "  # then JSON, unseen where it is shown
SHOWN = 40  # names


def as_code(text: str) -> str:
    """Return some text as a code span on one line, in which nothing is a tag, a link or an emphasis.

    >>> as_code("<img src=x>\\n# `[a](b)`")
    '`` <img src=x> # `[a](b)` ``'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest or not line else f"{fence}{line}{fence}"


def listed(names: Sequence[str]) -> str:
    """Return the first names as code."""
    return ", ".join(as_code(name) for name in names[:SHOWN]) + (" …" if len(names) > SHOWN else "")


def verdict(gain: tuple[float, float, float], n_test: int) -> str:
    """Return what an interval over classes supports; ``gain`` is (mean, low, high) points of accuracy."""
    mean, low, high = gain
    than = "better than" if low > 0 else "worse than" if high < 0 else "not shown to differ from"
    few = f" {n_test} test pictures are few: some points may be chance." if n_test < 200 else ""
    return f"The learned prompts are {than} none ({mean:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}).{few}"


def write_card(path: Path, run: str, measured: dict[str, float], remark: str, **facts: object) -> Path:
    """Write the card and a last line, unseen where it is shown, with which ``read_card`` knows it.

    Args:
        facts: what ``page/card.md`` asks for, names as code.
    """
    lines = [f"* {what}: {value:.1f} %" for what, value in measured.items()]
    card = Template(CARD.read_text(encoding="utf-8")).substitute(facts, measured="\n".join([*lines, "", remark]))
    record = json.dumps({"run": run, "measured": measured, "page": digest(card)})
    return atomic_write(path, lambda part: part.write_bytes(f"{card}{SEAL}{record} -->\n".encode()))


def read_card(path: Path) -> dict:
    """Return what ``write_card`` recorded; nothing for a page that is missing, changed, or somebody else's."""
    text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
    card, _, rest = text.partition(SEAL)
    try:
        record = json.loads(rest.removesuffix(" -->\n"))
        return record if record["page"] == digest(card) else {}
    except (ValueError, TypeError, KeyError):
        return {}
