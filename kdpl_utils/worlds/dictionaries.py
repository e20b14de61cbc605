"""Dictionaries: the thousands of names among which a class-agnostic teacher chooses."""

from __future__ import annotations

import codecs
import csv
import difflib
import functools
import heapq
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..support.disk import DiskFull, as_path, json_of
from ..support.values import shown
from ..towers.words import check_name, cleaned
from .fetching import FAILED, check_writable, fetch_file

# Text that is made otherwise: its lines would become names.
NO_LISTS = (".yaml", ".yml", ".xml", ".html", ".htm", ".toml", ".ini", ".py", ".ipynb", ".jsonl", ".md")
OPEN_IMAGES_FILE = "oidv7-class-descriptions.csv"
OPEN_IMAGES = f"https://storage.googleapis.com/openimages/v7/{OPEN_IMAGES_FILE}"


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names in their order, each once: names that CLIP cleans to one text are one, as "Hot_dog" and "hot dog"."""
    first = {}
    for name in names:
        first.setdefault(cleaned(name.replace("_", " ")), name)
    return tuple(first.values())


def load_dictionary(source: str | Path | Iterable[str], root: Callable[[], Path]) -> tuple[str, ...]:
    """Names for class-agnostic learning, in their order, none twice.

    Args:
        source: ``"imagenet21k"``, ``"open_images"``, the path of a file (``read_names``), or the names themselves.
        root: gives the folder of real data sets, where Open Images' list lies or is put.

    Raises:
        ValueError: no list of names, or one that holds something else.
    """
    if isinstance(source, str | Path):
        if source == "imagenet21k":
            return imagenet21k_names()
        names = open_images_names(root()) if source == "open_images" else read_names(source)
    elif not isinstance(source, Iterable) or isinstance(source, bytes | Mapping | set | frozenset):
        raise ValueError(f"The dictionary is a {type(source).__name__}: give a list of names, or the path of a file.")
    else:
        names = list(source)
    names = [name for name in names if not isinstance(name, str) or name.strip()]
    if not names:
        raise ValueError("The dictionary has no name in it: give at least as many as a batch selects.")
    for name in names:
        check_name(name)
    return unique_names(name.strip() for name in names)


def read_names(path: str | Path) -> list[str]:
    """A list of one's own: a text file with one name a line, a ``.csv`` or ``.tsv``, or a ``.json`` with a list.

    Of a table the column ``DisplayName`` or ``ClassName`` is read, or else its only column, which has no header then.

    Raises:
        ValueError: a table or a list that cannot be understood, or a file of another kind.
    """
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no dictionary {str(path)!r}: give 'imagenet21k', 'open_images', a list of names, or the path of "
            "a text file with one name a line."
        )
    text, suffix = _text_of(path), path.suffix.lower()
    if suffix in NO_LISTS:
        raise ValueError(f"{path} is no list of names: write a text file with one name a line, or a .json with a list.")
    if suffix in (".csv", ".tsv"):
        return _column(path, text)
    if suffix == ".json":
        return _json_names(path, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _column(path: Path, text: str) -> list[str]:
    """The column of names of a table, between whose columns stand commas, semicolons or tabs."""
    first_line = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first_line.count)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    header = [cell.strip() for cell in rows[0]] if rows else []
    column = next((header.index(name) for name in ("DisplayName", "ClassName") if name in header), None)
    if column is None and len(header) > 1:
        raise ValueError(f"{path} has {len(header)} columns: call the one with the names ClassName in its first line.")
    short = [row for row in rows if len(row) <= (column or 0)]
    if short:
        raise ValueError(f"{path} has a row without a name, {separator.join(short[0])!r}: complete it, or remove it.")
    return [row[column or 0].strip() for row in (rows if column is None else rows[1:])]


def _json_names(path: Path, text: str) -> list[str]:
    try:
        names = json_of(text)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): write a list of names.") from error
    if not isinstance(names, list):
        raise ValueError(f"{path} holds no list: write one of names, in the order of their labels.")
    return names


def _text_of(path: Path) -> str:
    """UTF-8 with or without a mark at its beginning, or what Windows calls Unicode."""
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: save it so, with one name a line.") from error


def open_images_names(root: Path) -> list[str]:
    """The display names of Open Images V7, some 20,900: what KDPL's own dictionary holds; fetched once.

    Raises:
        FileNotFoundError: the list is not there and could not be fetched; says what to put where.
    """
    path = root / OPEN_IMAGES_FILE
    if not path.exists():
        check_writable(root)
        try:
            fetch_file(OPEN_IMAGES, path)
        except DiskFull:
            raise
        except FAILED as error:
            message = f"{path} is missing and could not be fetched: put {OPEN_IMAGES} there and load it again."
            raise FileNotFoundError(message) from error
    return read_names(path)


@functools.cache
def imagenet21k_names() -> tuple[str, ...]:
    """About 20,000 names from WordNet: the first lemma of each ImageNet-21k class, in timm's order, each once."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    lemmas = (info.index_to_description(i).split(",")[0].strip() for i in range(info.num_classes()))
    return unique_names(lemmas)


@dataclass(frozen=True)
class DictionaryReport:
    """How many true class names a dictionary holds, case and underscores aside.

    Attributes:
        size: names in the dictionary.
        held: the class names that it holds.
        missing: each class name that it does not hold → its nearest spelling there, or None where none is near.
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
        shown = [f"{name} (nearest: {near})" if near else name for name, near in list(self.missing.items())[:10]]
        rest = f" and {len(self.missing) - 10} more" if len(self.missing) > 10 else ""
        return f"{text}; missing: {', '.join(shown)}{rest}." if shown else f"{text}."


def dictionary_report(dictionary: Sequence[str], classnames: Sequence[str]) -> DictionaryReport:
    """Whether class-agnostic learning could choose the true names at all; a missing one can only be approached."""
    for what, names in (("dictionary", dictionary), ("classnames", classnames)):
        if isinstance(names, str):
            raise ValueError(f"{what} is one text, {names!r}: give a list of names.")
        if not isinstance(names, Sequence | np.ndarray) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{what} is {shown(names)}: give a list of names.")
    if not len(classnames):
        raise ValueError("There are no class names to look for: this world has none.")
    plain = [_plain(name) for name in dictionary]
    known, index = set(plain), _by_trigram(plain)
    held = tuple(name for name in classnames if _plain(name) in known)
    nearest = {name: _nearest(_plain(name), plain, index) for name in classnames if _plain(name) not in known}
    missing = {name: None if i is None else dictionary[i] for name, i in nearest.items()}
    return DictionaryReport(len(dictionary), held, missing)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _trigrams(plain: str) -> set[str]:
    padded = f"  {plain} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def _by_trigram(plain: Sequence[str]) -> dict[str, list[int]]:
    """Comparing a thousand names with twenty thousand by difflib alone would take minutes."""
    index = defaultdict(list)
    for i, name in enumerate(plain):
        for trigram in _trigrams(name):
            index[trigram].append(i)
    return index


def _nearest(name: str, plain: Sequence[str], index: dict[str, list[int]], cutoff: float = 0.6) -> int | None:
    """Which has the highest difflib ratio among the twenty that share most trigrams, if that is ``cutoff``."""
    wanted = _trigrams(name)
    shared = Counter(i for trigram in wanted for i in index.get(trigram, ()))
    overlap = {i: 2 * n / (len(wanted) + len(plain[i]) + 1) for i, n in shared.items()}  # Dice's, 0 to 1
    candidates = heapq.nsmallest(20, overlap, key=lambda i: (-overlap[i], i))
    ratio = {i: difflib.SequenceMatcher(None, name, plain[i]).ratio() for i in candidates}
    best = max(candidates, key=lambda i: ratio[i], default=None)
    return None if best is None or ratio[best] < cutoff else best
