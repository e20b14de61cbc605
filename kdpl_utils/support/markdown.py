"""Words of others, in a page of Markdown."""

from __future__ import annotations

import re
import unicodedata


def one_line(text: str) -> str:
    """The text without what moves a cursor, colours a console or ends a line.

    >>> one_line("a\\r\\n\\x1b[31mb")
    'a [31mb'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def without_controls(text: str) -> str:
    """The text, whose lines stay lines, without what moves a cursor or colours a console.

    >>> without_controls("a\\x1b[31mb\\nc")
    'a [31mb\\nc'
    """
    return "".join(" " if unicodedata.category(c) == "Cc" and c != "\n" else c for c in text)


def as_code(text: str) -> str:
    """Some text on one line as a code span, in which nothing is a tag, a link, an emphasis or a mention.

    >>> as_code("<img src=x>\\n# `[a](b)`")
    '`` <img src=x> # `[a](b)` ``'
    """
    line = one_line(text)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    # A space inside keeps the fence from the text's own backticks, and is not shown.
    inner = f" {line} " if longest or not line else line
    return f"{fence}{inner}{fence}"


def plain_words(text: str) -> str:
    """The text without the signs that pages and configurations give a meaning, for places where nothing is quoted.

    >>> plain_words("my <b>cats & dogs</b> [1]")
    'my b cats dogs b 1'
    """
    return " ".join(re.findall(r"[\w.,+-]+", text.encode("utf-8", "replace").decode()))
