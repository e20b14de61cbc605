"""Where the shipped files are, and that they are whole."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path


@functools.cache
def data_root() -> Path:
    """The folder ``data/``: beside the package in a clone, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parents[1]
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
