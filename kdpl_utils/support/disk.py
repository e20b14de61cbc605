"""Files that are whole, and what tells one from another."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from .values import shown

# A temporary file says for which file, on which host and by which process it is written; the letters are random.
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<host>[\w-]+)\.(?P<process>\d+)\.[a-z]{8}\.part")
ABANDONED_SECONDS = 24 * 3600  # of another host, whose processes cannot be asked for
FULL = (errno.ENOSPC, errno.EDQUOT)
LITTLE = 2**16  # bytes that are left on a full disk
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


class DiskFull(OSError):
    """There is no room left; the files that were there are as they were."""


class Damaged(ValueError):
    """A file that was written whole is not what was written; says which."""


def as_path(given: str | bytes | os.PathLike) -> Path:
    """A path as it is meant: ``~`` is the home folder, and nothing at all is not the current one.

    Raises:
        ValueError: it is empty, as a variable of a shell that is not set, or no path.
        FileNotFoundError: there is no such home folder.
    """
    try:
        text = os.fsdecode(given)
    except TypeError:
        raise ValueError(f"{shown(given)} is no path: give a text or a pathlib.Path.") from None
    if "\0" in text:
        raise ValueError(f"{text!r} holds a character that no path may hold: leave it out.")
    if not text:
        raise ValueError("A path is empty (is a variable of the shell not set?): name a file or a folder.")
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError as error:
        if path.exists():  # a file that is called so
            return path
        raise FileNotFoundError(f"{text} begins with ~ and no home folder is known: spell it out.") from error


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


def checksum(path: Path) -> str:
    """SHA-256 of all of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- writing -------------------------------------------------------------------------------------------------------


def write_whole(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` make the file under another name and give it its own when it is on the disk: never half a file.

    What killed processes left of the same file is removed.

    Raises:
        DiskFull: there is no room left, whichever library noticed it; what was there before is still there.
        OSError: nothing can be written there, or it is a folder.
    """
    path = as_path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of a file, which may be new.")
    # Windows and Linux allow 255 bytes; a name that is cut is still told apart by its letters.
    name = path.name.encode()[:100].decode(errors="ignore")
    letters = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(8))
    partial = path.with_name(f".{name}.{_host()}.{os.getpid()}.{letters}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned_in(path.parent, name)
        write(partial)
        _flush_to_disk(partial)
        os.replace(partial, path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _flush_to_disk(path.parent)
    except Exception as error:
        sentence = writing_error(path, error)
        if sentence is None:
            raise
        raise sentence from error
    finally:
        if path.parent.is_dir():
            partial.unlink(missing_ok=True)
    return path


def _host() -> str:
    return re.sub(r"[^\w-]+", "-", socket.gethostname().split(".")[0])[:32] or "host"


def _flush_to_disk(path: Path) -> None:
    """Return when a file, or what a folder says of its files, would survive a power cut."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    opened = os.open(path, flags)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot
            raise
    finally:
        os.close(opened)


def writing_error(path: Path, error: Exception) -> OSError | None:
    """The error as one sentence about the file that was meant; None where it is not the disk's."""
    if is_full(error) or _free_bytes(path.parent) < LITTLE:
        return DiskFull(
            f"There is no room left on the disk of {path.parent} to write {path.name}: make some and give the same "
            "command again; what was complete is kept."
        )
    if isinstance(error, OSError) and error.errno in REFUSED:
        in_the_way = error.errno in (errno.ENOTDIR, errno.EEXIST)
        reason = "a file is in the place of its folder" if in_the_way else error.strerror.lower()
        return type(error)(f"{path} cannot be written ({reason}): choose another folder, or make this one writable.")
    return None


def _free_bytes(folder: Path) -> int:
    """Beside what was written so far; torch.save does not say why it failed."""
    return shutil.disk_usage(folder).free if folder.is_dir() else LITTLE


def is_full(error: BaseException) -> bool:
    """Whether an error means that a disk is full: libraries have errors of their own for that."""
    while error is not None:
        if getattr(error, "errno", None) in FULL or isinstance(error, DiskFull):
            return True
        if re.search(r"no space left|disk quota exceeded|os error 28\b", str(error), re.IGNORECASE):
            return True
        error = error.__cause__
    return False


def remove_abandoned(folder: Path, depth: int = 2) -> None:
    """Remove the temporary files of processes that were killed, in a folder and ``depth`` floors below it."""
    for pattern in ("*/" * floor + ".*.part" for floor in range(depth + 1)):
        for path in folder.glob(pattern):
            _remove_if_abandoned(path)


def _remove_abandoned_in(folder: Path, name: str) -> None:
    for entry in os.scandir(folder):
        if entry.name.startswith(f".{name}.") and entry.name.endswith(".part"):
            _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(path: Path) -> None:
    written_by = TEMPORARY.fullmatch(path.name)
    if written_by is None:  # not ours
        return
    if written_by["host"] == _host() and os.name == "posix":
        if _is_alive(int(written_by["process"])):
            return
    elif path.exists() and abs(time.time() - path.stat().st_mtime) < ABANDONED_SECONDS:  # clocks may be set back
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in REFUSED:  # of a folder that can only be read, what is to be written there says so
            raise


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


# --- JSON that is checked when it is read --------------------------------------------------------------------------


def write_json(path: Path, value: dict) -> Path:
    """Write a dictionary together with its checksum."""
    text = json.dumps({**value, "sha256": _checksum_of(value)}, indent=1) + "\n"
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def json_of(content: str | bytes) -> object:
    """What JSON holds.

    Raises:
        ValueError: it is no JSON in UTF-8, or is nested so deeply that nobody meant it.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(path: Path) -> dict | None:
    """What ``write_json`` wrote; None where there is no file, or a damaged one, which is said in a warning."""
    if not path.is_file():
        return None
    try:
        value = json_of(path.read_bytes())
    except ValueError:
        value = None
    if not isinstance(value, dict) or value.pop("sha256", None) not in (
        None,
        _checksum_of(value),
    ):  # None: earlier ones
        say_damaged(path)
        return None
    return value


def say_damaged(path: Path) -> None:
    """One line for each file, however often it is looked at: Python leaves out warnings that it has shown."""
    warnings.warn(f"{path} is damaged (cut short or changed): it is made again.", stacklevel=1)


def _checksum_of(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_checksums(folder: Path) -> None:
    """Record the SHA-256 of every file under ``folder`` (used by the scripts that make the data)."""
    names = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "checksums.json" and p.suffix != ".part")
    sums = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in names}
    write_whole(folder / "checksums.json", lambda part: part.write_text(json.dumps(sums, indent=1) + "\n"))
