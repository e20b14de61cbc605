"""Dictionaries: the thousands of names among which a class-agnostic teacher chooses."""

from __future__ import annotations

import csv
import difflib
import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..clip.words import cleaned
from ..support.disk import as_path, atomic_write

OPEN_IMAGES = "https://storage.googleapis.com/openimages/v7/oidv7-class-descriptions.csv"


def data_folder(root: str | Path | None = None) -> Path:
    """Return the folder of all data sets; by default ``$KDPL_DATA``, or else ``~/.cache/kdpl``."""
    return as_path(root or os.environ.get("KDPL_DATA") or "~/.cache/kdpl")


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names in their order, each once: CLIP reads "Hot_dog" and "hot dog" as one name."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(_spelled(name), name)
    return tuple(first.values())


def _spelled(name: str) -> str:
    return cleaned(name.replace("_", " "))


def load_dictionary(source: str | Path | Iterable[str], root: str | Path | None = None) -> tuple[str, ...]:
    """Return names for class-agnostic learning, in their order, none twice.

    Args:
        source: ``"imagenet21k"``, ``"open_images"``, the path of a file with one name a line, or the names themselves.
        root: The folder of real data sets, for the list of Open Images.
    """
    if not isinstance(source, str | Path):
        return unique_names(source)
    if source == "imagenet21k":
        return imagenet21k_names()
    if source == "open_images":
        return open_images_names(data_folder(root))
    return unique_names(read_names(source))


def read_names(path: str | Path) -> list[str]:
    """Read a text file with one name a line.

    Raises:
        ValueError: The file is empty or of another format, whose lines would become names.
    """
    path = as_path(path)
    if path.suffix.lower() not in (".txt", ""):
        raise ValueError(f"{path} is not a text file with one name a line: write it as names.txt.")
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{path} is empty: write one name a line.")
    return names


def open_images_names(root: Path) -> tuple[str, ...]:
    """Return the 20,900 display names of Open Images V7, KDPL's own dictionary; fetch them once.

    Raises:
        FileNotFoundError: The list is missing and cannot be fetched; says what to put where.
    """
    path = root / OPEN_IMAGES.rsplit("/", 1)[1]
    if not path.exists():
        from torchvision.datasets.utils import download_url

        try:
            atomic_write(path, lambda part: download_url(OPEN_IMAGES, part.parent, part.name))
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(f"{path} cannot be fetched ({error}): put {OPEN_IMAGES} there.") from error
    with path.open(encoding="utf-8-sig", newline="") as file:
        return unique_names(row["DisplayName"] for row in csv.DictReader(file))


@functools.cache
def imagenet21k_names() -> tuple[str, ...]:
    """Return about 20,000 names from WordNet: the first word of each ImageNet-21k class, in timm's order."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    return unique_names(info.index_to_description(i).split(",")[0].strip() for i in range(info.num_classes()))


def dictionary_report(dictionary: Sequence[str], classnames: Sequence[str]) -> str:
    """Say how many class names the dictionary holds, and what is nearest to the others: these are only approached.

    >>> dictionary_report(["Great Dane", "Birman cat"], ["great dane", "Birman", "xylophone"])
    "1 of 3 class names are among the dictionary's 2; not Birman (nearest: Birman cat), xylophone (nearest: none)."
    """
    known = {_spelled(name): name for name in dictionary}
    missing = [name for name in classnames if _spelled(name) not in known]
    held = len(classnames) - len(missing)
    near = {name: difflib.get_close_matches(_spelled(name), known, n=1) for name in missing[:10]}
    some = [f"{name} (nearest: {known[match[0]] if match else 'none'})" for name, match in near.items()]
    rest = f"; not {', '.join(some)}{', …' if len(missing) > 10 else ''}" if missing else ""
    return f"{held} of {len(classnames)} class names are among the dictionary's {len(dictionary)}{rest}."
