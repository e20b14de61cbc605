"""Data sets are fetched and unpacked beside their place, by one process at a time, and moved there when whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from ..support.disk import DiskFull, is_full, write_whole
from ..support.locks import alone

FAILED = (OSError, RuntimeError, HTTPException)  # no network, one that breaks off, a broken archive
SILENT_SECONDS = 60.0


def fetch_file(address: str, path: Path) -> None:
    """One file, whole or not at all: a connection that breaks off half-way gives no error by itself.

    Raises:
        OSError, HTTPException: it could not be fetched, or not all of it.
    """

    def write(partial: Path) -> None:
        asked = Request(address, headers={"User-Agent": "kdpl-notebooks"})
        with urlopen(asked, timeout=SILENT_SECONDS) as answer, partial.open("wb") as file:
            shutil.copyfileobj(answer, file)
            promised = answer.headers.get("Content-Length")
        if promised is not None and partial.stat().st_size != int(promised):
            raise ConnectionError(f"{address} broke off after {partial.stat().st_size} of {promised} bytes.")

    write_whole(path, write)


def fetch_beside(
    name: str,
    root: Path,
    place: str,
    archives: Sequence[str],
    fetch: Callable[[Path], None],
    is_there: Callable[[], bool],
) -> None:
    """Let ``fetch`` fill a folder of its own below ``root``, then move what it made into place.

    Archives that lie in their place are used.  What an earlier try had fetched is used again, what it had unpacked is
    not: nobody knows how far it came.

    Args:
        place: where the archives of this data set belong, below ``root``; the same below the folder of its own.
        archives: their names.
        is_there: whether another process has done it, while this one waited.

    Raises:
        OSError, RuntimeError, HTTPException: it could not be fetched or unpacked, or ``root`` cannot be written to,
            which is said.
    """
    check_writable(root)
    home = root / f".fetching-{name}"
    with alone(root / f".fetching-{name}.lock", f"fetching {name}"):
        if is_there():
            return
        (home / place).mkdir(parents=True, exist_ok=True)
        for left in (home / place).iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
        for archive in archives:
            here = root / place / archive
            there = home / place / archive
            if here.is_file() and not there.exists():
                there.unlink(missing_ok=True)  # a link to what has been removed
                there.symlink_to(here.resolve())
        try:
            fetch(home)
        except FAILED as error:
            if is_full(error):
                message = f"There is no room left on the disk of {root} to fetch {name}: make some and load it again."
                raise DiskFull(message) from error
            raise
        _move(home, root)
        shutil.rmtree(home)


def check_writable(root: Path) -> None:
    """Refuse a folder of data sets that cannot be made or written to, before anything is fetched.

    Raises:
        OSError: says so, and which variable names another one.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        why = "its disk is full" if is_full(error) else f"it cannot be written to ({error.strerror})"
        raise OSError(f"The folder of data sets is {root}, and {why}: let KDPL_DATA name another folder.") from error


def _move(source: Path, target: Path) -> None:
    """Everything below a folder into another, each folder at once where there is none; what is there stays."""
    for path in sorted(source.iterdir()):
        there = target / path.name
        if path.is_symlink():
            path.unlink()
        elif not there.exists():
            os.replace(path, there)
        elif path.is_dir() and there.is_dir():
            _move(path, there)
