"""Files: written whole or not at all, checked when they are read, locked while a process makes them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = 5.0  # seconds of waiting for a lock before it is reported
MARK = b'"sha256":"'  # in the header of our safetensors
BLOCK = 2**16


class DamagedError(ValueError):
    """A file is cut short, changed, or of another kind; the sentence names it."""


def as_path(given: str | os.PathLike) -> Path:
    """Return a path with ``~`` as the home folder; refuse an empty one, as of a shell variable that is not set."""
    if not os.fspath(given):
        raise ValueError("A path is empty (is a variable of the shell not set?): name a file or a folder.")
    return Path(given).expanduser()


def digest(*values) -> str:
    """Return 24 hexadecimal digits that change when any of the values does, and are the same on every machine."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:24]


def file_digest(path: str | Path) -> str:
    """Identify a file by its size and 64 blocks spread over it, so that large ones need not be read whole."""
    size = os.path.getsize(path)
    hashed = hashlib.sha256(str(size).encode())
    with open(path, "rb") as content:
        for start in sorted({max(0, size - BLOCK) * i // 63 for i in range(64)}):
            content.seek(start)
            hashed.update(content.read(BLOCK))
    return hashed.hexdigest()[:24]


def atomic_write(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` make the file under another name, then rename it: never half a file.

    Raises:
        OSError: The disk is full or not writable; the previous file is still there.
    """
    path = as_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:100]}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        write(partial)
        os.replace(partial, path)
    except Exception as error:  # safetensors reports a full disk as an error of its own
        if getattr(error, "errno", None) == errno.ENOSPC or "no space left" in str(error).lower():
            raise OSError(errno.ENOSPC, f"There is no room left on the disk to write {path}: make some.") from error
        raise
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: dict) -> Path:
    """Write a dictionary together with its checksum."""
    text = json.dumps({**value, "sha256": digest(json.dumps(value, sort_keys=True))}, indent=1)
    return atomic_write(path, lambda part: part.write_text(text + "\n", encoding="utf-8"))


def read_json(path: Path) -> dict | None:
    """Read what ``write_json`` wrote; None if the file is missing or, which is reported, damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("sha256") == digest(json.dumps(value, sort_keys=True)):
            return value
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError, TypeError):
        pass  # cut short, or other JSON
    report_damaged(path)
    return None


def report_damaged(path: Path) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"{path} is damaged (cut short or changed): it is made again.\n")


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> Path:
    """Write safetensors with the SHA-256 of the whole file in its header; nothing in it is pickled."""
    from safetensors.torch import save

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(ready, {**header, "sha256": "0" * 64})
    checksum = hashlib.sha256(content).hexdigest().encode()
    content = content.replace(MARK + b"0" * 64, MARK + checksum, 1)
    return atomic_write(path, lambda part: part.write_bytes(content))


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the header and the tensors of a safetensors file.

    Raises:
        DamagedError: The file is cut short, changed, or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = path.read_bytes()
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise DamagedError(f"{path} is damaged, or not a safetensors file ({error}).") from error
    checksum = header.pop("sha256", "")
    unmarked = content.replace(MARK + checksum.encode(), MARK + b"0" * 64, 1)
    if checksum and hashlib.sha256(unmarked).hexdigest() != checksum:  # files of other programs have none
        raise DamagedError(f"{path} is damaged: its checksum is wrong.")
    return header, tensors


@contextmanager
def file_lock(path: Path, work: str) -> Iterator[None]:
    """Hold a lock file, so that no other process does the same ``work``; report waiting after some seconds."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        sys.stderr.write(f"Waiting for another process, which is {work} ({path}).\n")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_checksums(folder: Path) -> None:
    """Record the SHA-256 of every file under ``folder`` (used by the scripts that make the data)."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "checksums.json" and p.suffix != ".part")
    sums = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    atomic_write(folder / "checksums.json", lambda part: part.write_text(json.dumps(sums, indent=1) + "\n"))
