"""Where the shipped files are; each is checked before it is used."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

RESTORE = "restore it with 'git checkout -- data', or reinstall the package"


@functools.cache
def data_root() -> Path:
    """Return the folder ``data/``: beside the package in a clone, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "_data", package.parent / "data"):
        if (root / "emoji").is_dir():
            return root
    raise FileNotFoundError(f"The data folder is missing beside {package}: clone the whole repository, or reinstall.")


@functools.cache
def data_file(name: str) -> Path:
    """Return the path of ``data/emoji/<name>`` after comparing its SHA-256 with ``checksums.json``.

    Raises:
        FileNotFoundError, ValueError: The file is missing or not the published one.
    """
    path = data_root() / "emoji" / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {RESTORE}.")
    expected = json.loads((data_root() / "emoji" / "checksums.json").read_text())
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected.get(name):
        raise ValueError(f"{path} is damaged (wrong checksum): {RESTORE}.")
    return path
