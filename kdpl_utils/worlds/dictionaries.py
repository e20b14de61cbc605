"""Dictionaries: the thousands of names among which a class-agnostic teacher chooses."""

from __future__ import annotations

import csv
import difflib
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..clip.words import cleaned
from ..support.disk import as_path, atomic_write

OPEN_IMAGES = "https://storage.googleapis.com/openimages/v7/oidv7-class-descriptions.csv"


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names in their order, each once: CLIP reads "Hot_dog" and "hot dog" as one name."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(cleaned(name.replace("_", " ")), name)
    return tuple(first.values())


def load_dictionary(source: str | Path | Iterable[str], root: Path) -> tuple[str, ...]:
    """Names for class-agnostic learning, in their order, none twice.

    Args:
        source: ``"imagenet21k"``, ``"open_images"``, the path of a file with one name a line, or the names themselves.
        root: the folder of real data sets, where Open Images' list lies or is put.
    """
    if not isinstance(source, str | Path):
        return unique_names(source)
    if source == "imagenet21k":
        return imagenet21k_names()
    if source == "open_images":
        return open_images_names(root)
    return unique_names(read_names(source))


def read_names(path: str | Path) -> list[str]:
    """A list of one's own: a text file with one name a line.

    Raises:
        ValueError: a table or another format, whose lines would become names.
    """
    path = as_path(path)
    if path.suffix.lower() not in (".txt", ""):
        raise ValueError(f"{path} is not a text file with one name a line: write it as names.txt.")
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{path} is empty: write one name a line.")
    return names


def open_images_names(root: Path) -> tuple[str, ...]:
    """The display names of Open Images V7, some 20,900: KDPL's own dictionary; fetched once.

    Raises:
        FileNotFoundError: the list is not there and could not be fetched; says what to put where.
    """
    path = root / OPEN_IMAGES.rsplit("/", 1)[1]
    if not path.exists():
        from torchvision.datasets.utils import download_url

        try:
            atomic_write(path, lambda part: download_url(OPEN_IMAGES, part.parent, part.name))
        except (OSError, RuntimeError) as error:
            message = f"{path} is missing and could not be fetched ({error}): put {OPEN_IMAGES} there."
            raise FileNotFoundError(message) from error
    with path.open(encoding="utf-8-sig", newline="") as file:
        return unique_names(row["DisplayName"] for row in csv.DictReader(file))


@functools.cache
def imagenet21k_names() -> tuple[str, ...]:
    """About 20,000 names from WordNet: the first lemma of each ImageNet-21k class, in timm's order, each once."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    return unique_names(info.index_to_description(i).split(",")[0].strip() for i in range(info.num_classes()))


@dataclass(frozen=True)
class DictionaryReport:
    """Which class names a dictionary holds, case and underscores aside.

    Attributes:
        size: names in the dictionary.
        held: the class names that it holds.
        missing: each class name that it lacks → its nearest spelling there, or None where none is near.
    """

    size: int
    held: tuple[str, ...]
    missing: dict[str, str | None]

    @property
    def share(self) -> float:
        """Of the class names, those held, 0 to 1."""
        return len(self.held) / (len(self.held) + len(self.missing))

    def __str__(self) -> str:
        total = len(self.held) + len(self.missing)
        text = f"{len(self.held)} of {total} class names ({self.share:.0%}) are among the dictionary's {self.size}"
        some = [f"{name} (nearest: {near})" if near else name for name, near in list(self.missing.items())[:10]]
        rest = f" and {len(self.missing) - 10} more" if len(self.missing) > 10 else ""
        return f"{text}; missing: {', '.join(some)}{rest}." if some else f"{text}."


def dictionary_report(dictionary: Sequence[str], classnames: Sequence[str]) -> DictionaryReport:
    """Whether class-agnostic learning could choose the true names at all; a missing one can only be approached."""
    spelled = {cleaned(name.replace("_", " ")): name for name in dictionary}
    held = tuple(name for name in classnames if cleaned(name.replace("_", " ")) in spelled)
    missing: dict[str, str | None] = {}
    for name in classnames:
        if name not in held:
            near = difflib.get_close_matches(cleaned(name), spelled, n=1)
            missing[name] = spelled[near[0]] if near else None
    return DictionaryReport(len(dictionary), held, missing)
