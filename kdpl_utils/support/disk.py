"""Files that are whole, and what tells one from another."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path


def digest(*values) -> str:
    """24 hexadecimal digits that change when any of the values does; equal values give equal digits everywhere."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:24]


def fingerprint(path: str | Path) -> str:
    """Tells a large file from another without reading all of it: SHA-256 of its size and 64 blocks spread over it.

    Of a folder, of every file in it.
    """
    path = Path(path)
    if not path.is_dir():
        return _blocks(path, path.stat().st_size, path.stat().st_mtime_ns)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return digest([(p.name, fingerprint(p)) for p in files])


@functools.lru_cache(maxsize=256)
def _blocks(path: Path, size: int, changed: int) -> str:
    """Remembered until the file changes: a table asks for each of its runs."""
    hashed, block = hashlib.sha256(str(size).encode()), 2**16
    with path.open("rb") as content:
        for start in sorted({max(0, size - block) * i // 63 for i in range(64)}):
            content.seek(start)
            hashed.update(content.read(block))
    return hashed.hexdigest()[:24]


def write_whole(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` make the file under another name and give it its own when it is complete: never half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_checksums(folder: Path) -> None:
    """Record the SHA-256 of every file under ``folder`` (used by the scripts that make the data)."""
    names = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "checksums.json" and p.suffix != ".part")
    sums = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in names}
    write_whole(folder / "checksums.json", lambda part: part.write_text(json.dumps(sums, indent=1) + "\n"))
