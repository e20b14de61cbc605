"""One at a time: who comes second waits, and is told for whom."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .disk import writing_error

PATIENCE = 5.0  # seconds of waiting before it is said


class Busy(Exception):
    """Somebody else is at it, and nobody wanted to wait."""


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


@contextmanager
def alone(lock: Path, work: str, wait: bool = True, report: Callable[[str], None] = say) -> Iterator[None]:
    """While this lasts, no other process or thread is at the same ``lock``, a file; a killed one holds nobody up.

    Args:
        work: what is done, as in "Waiting for process 7 on host, which is …".
        wait: for who is at it; else ``Busy`` is raised.

    Raises:
        OSError: the lock cannot be made, as in a folder that cannot be written.
    """
    taken, holder = FileLock(lock), lock.with_suffix(".holder")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            taken.acquire(timeout=PATIENCE if wait else 0)
        except Timeout as error:
            who = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
            if not wait:
                raise Busy(f"{who} is {work}.") from error
            report(f"Waiting for {who}, which is {work}.")
            taken.acquire()
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    except OSError as error:
        taken.release()
        sentence = writing_error(lock, error)
        if sentence is None:
            raise
        raise sentence from error
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        taken.release()
