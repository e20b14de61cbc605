"""The lists that come with data sets, read so that a damaged one is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..support.extras import optional
from .photos import Files

# What damaged lists raise when they are read or taken apart; json's and Unicode's errors are ValueErrors.
BROKEN = (ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, NotImplementedError, RecursionError)


class BrokenList(ValueError):
    """A list that cannot be read; the sentence names its file."""


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """While a list is read and taken apart, whatever is wrong with it is said with its name.

    Raises:
        BrokenList: the file was cut short, or is something else, such as the page of a server's error.
    """
    try:
        yield
    except BrokenList:
        raise
    except BROKEN as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        reason = f"{kind}{error}".splitlines()[0]
        raise BrokenList(f"{path} is not {what}, or was cut short ({reason}): fetch it again.") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    with reading(path, "a list in text"):
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        if not lines:
            raise ValueError("it is empty")
        return lines


def read_json_list(path: Path) -> object:
    """The content of a JSON file, with or without a byte-order mark."""
    with reading(path, "a JSON file"):
        return json.loads(path.read_text(encoding="utf-8-sig"))


def read_mat(path: Path) -> dict:
    """A MATLAB file, read with SciPy; scalars and strings as such."""
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    loadmat = optional("scipy.io", "data").loadmat
    with reading(path, "a MATLAB file"):
        try:
            return loadmat(path, squeeze_me=True)
        except Exception as error:  # SciPy has an error of its own, and others of zlib and struct
            raise ValueError(str(error)) from error


def read_published_split(file: Path, pictures: Path) -> Files:
    """CoOp's split: lists of [path below the pictures' folder, label, class name] for train, val and test.

    The order of the lists is kept, since the published few-shot subsets follow from it (``coop_few_shot``).  A split
    without ``val`` has no validation pictures.
    """
    content = read_json_list(file)
    with reading(file, "a split as CoOp publishes it"):
        if not isinstance(content, dict) or not {"train", "test"} <= set(content):
            raise ValueError("it has no lists train and test")
        split = {part: [_entry(*row) for row in content.get(part) or []] for part in ("train", "val", "test")}
        names = {}
        for rows in split.values():
            for _, label, name in rows:
                if names.setdefault(label, name) != name:
                    raise ValueError(f"label {label} is called {names[label]!r} and {name!r}")
        if not names:
            raise ValueError("its lists are empty")
    number = {label: i for i, label in enumerate(sorted(names))}
    pairs = {part: [(f"{pictures}/{path}", number[y]) for path, y, _ in rows] for part, rows in split.items()}
    return Files([names[label] for label in sorted(names)], pairs["train"], pairs["val"], pairs["test"])


def _entry(path: object, label: object, name: object) -> tuple[str, int, str]:
    if not isinstance(path, str) or not isinstance(name, str) or not isinstance(label, int) or isinstance(label, bool):
        raise ValueError(f"{[path, label, name]} is not [path, number, name]")
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"the path {path} leads out of the folder of pictures")
    return path, label, name
