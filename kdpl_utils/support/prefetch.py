"""Waiting less: what is needed next is made in other threads while this one computes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item, Made = TypeVar("Item"), TypeVar("Made")


def ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """``map(make, items)`` with the next one under way while the caller is busy with this one.

    Calls are made one after another, in order; an error comes where its item would have come.
    """
    with ThreadPoolExecutor(1) as maker:
        following = None
        for item in items:
            now, following = following, maker.submit(make, item)
            if now is not None:
                yield now.result()
        if following is not None:
            yield following.result()


@functools.cache
def openers() -> ThreadPoolExecutor:
    """Threads that open pictures side by side; decoding and resizing let others run."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), "open")


if hasattr(os, "register_at_fork"):  # a forked process has the pool but none of its threads: it makes its own
    os.register_at_fork(after_in_child=openers.cache_clear)
