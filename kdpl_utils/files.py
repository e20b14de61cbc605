"""Where the shipped files are, and that they are whole."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path


@functools.cache
def data_root() -> Path:
    """The folder ``data/``: beside the package in a clone, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parent
    for root in (package / "_data", package.parent / "data"):
        if (root / "emoji").is_dir():
            return root
    raise FileNotFoundError(
        f"The suite's data folder is missing beside {package}: clone the whole repository, or reinstall the package."
    )


@functools.cache
def _checked(root: Path, name: str) -> Path:
    path = root / "emoji" / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: restore it with 'git checkout -- data', or reinstall the package.")
    expected = json.loads((root / "emoji" / "checksums.json").read_text())
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected.get(name):
        raise ValueError(f"{path} is damaged (wrong checksum): restore it with 'git checkout -- data'.")
    return path


def data_file(name: str) -> Path:
    """The path of ``data/emoji/<name>``, after its SHA-256 was compared with ``checksums.json``.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: the file is not the one that was published.
    """
    return _checked(data_root(), name)


def fingerprint(path: str | Path) -> str:
    """Tells a large file from another without reading all of it: SHA-256 of its size and 64 blocks spread over it.

    Of a folder, of every file in it.
    """
    path = Path(path)
    if not path.is_dir():
        return _blocks(path, path.stat().st_size, path.stat().st_mtime_ns)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return hashlib.sha256(repr([(p.name, fingerprint(p)) for p in files]).encode()).hexdigest()[:24]


@functools.lru_cache(maxsize=256)
def _blocks(path: Path, size: int, changed: int) -> str:
    """Remembered until the file changes: a table asks for each of its runs."""
    digest, block = hashlib.sha256(str(size).encode()), 2**16
    with path.open("rb") as content:
        for start in sorted({max(0, size - block) * i // 63 for i in range(64)}):
            content.seek(start)
            digest.update(content.read(block))
    return digest.hexdigest()[:24]


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
