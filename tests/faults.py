"""One shape for the rows of all tables of faults: what goes wrong → the sentence that is said → what is kept.

A table is a dictionary from the fault, in words, to its row. The modules that hold tables name them in ``PAGE``; from
there ``docs/build.py`` makes the page of faults, and ``test_fault_table.py`` sees that no row is without a test.
"""

from __future__ import annotations

import re
from typing import NamedTuple

AS_IT_WAS = "files and models are as they were"


class Fault(NamedTuple):
    """A row.

    Attributes:
        given: what its test starts from: what the user does, types, or has in a folder.
        sentence: a part of what is said; several where several things are said, none where nothing has to be. "…"
            beside a space or an end stands for any words.
        kept: in words; the table's test checks it for every row.
    """

    given: object
    sentence: str | tuple[str, ...]
    kept: str = AS_IT_WAS

    @property
    def sentences(self) -> tuple[str, ...]:
        return (self.sentence,) if isinstance(self.sentence, str) else self.sentence


ANY_WORDS = re.compile(r"(?:^|(?<=\s))…|…(?=\s|$)")


def pattern(sentence: str) -> str:
    """The regular expression of a row's sentence, to be searched for.

    >>> pattern("no room on … at all (0…3)")
    'no\\\\ room\\\\ on\\\\ .*\\\\ at\\\\ all\\\\ \\\\(0…3\\\\)'
    """
    return ".*".join(re.escape(words) for words in ANY_WORDS.split(sentence))
