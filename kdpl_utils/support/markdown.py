"""Words of others, in a page of Markdown."""

from __future__ import annotations

import re


def as_code(text: str) -> str:
    """Some text on one line as a code span, in which nothing is a tag, a link, an emphasis or a mention.

    >>> as_code("<img src=x>\\n# `[a](b)`")
    '`` <img src=x> # `[a](b)` ``'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    # A space inside keeps the fence from the text's own backticks, and is not shown.
    inner = f" {line} " if longest or not line else line
    return f"{fence}{inner}{fence}"
