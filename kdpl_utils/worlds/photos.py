"""Pictures that lie in files: found, cut into splits, and opened when looked at."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..support.disk import digest
from ..support.pictures import as_rgb, is_picture, open_picture
from ..support.prefetch import openers

CHECKED = 20_000  # of more pictures, the broken ones are named when they are opened: looking takes minutes
SHOWN = 5  # sentences about broken pictures in one warning


class ArrayPicture(NamedTuple):
    """One picture of an array (N, H, W) or (N, H, W, 3) of bytes, in a ``.npy`` file that is mapped, not loaded."""

    file: str
    row: int


class TarPicture(NamedTuple):
    """One picture in a ``.tar`` that is not compressed, at its place there."""

    file: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.file}/{self.name}"


Photo = str | Path | ArrayPicture | TarPicture
Labelled = list[tuple[Photo, int]]  # pictures that are not opened, each with its class; -1 where that is unknown


class Files(NamedTuple):
    """Class names, and where the pictures of each split lie."""

    classnames: list[str]
    train: Labelled
    val: Labelled
    test: Labelled


def open_photo(photo: Photo, upright: bool = False, only_look: bool = False) -> Image.Image:
    """The picture as PIL RGB, wherever it lies (``open_picture``, whose arguments these are).

    Args:
        upright: turn it as its camera noted (EXIF); left as it is in the published data sets, as everywhere.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no picture, or was cut short.
    """
    if isinstance(photo, ArrayPicture):
        return as_rgb(Image.fromarray(_mapped(photo.file)[photo.row]))
    if isinstance(photo, TarPicture):
        return open_picture(_member(photo), str(photo), upright, only_look)
    return open_picture(photo, None, upright, only_look)


def _member(photo: TarPicture) -> io.BytesIO:
    with open(photo.file, "rb") as archive:
        archive.seek(photo.offset)
        return io.BytesIO(archive.read(photo.size))


@functools.lru_cache(maxsize=8)
def _mapped(file: str) -> np.ndarray:
    return np.load(file, mmap_mode="r")


def content_of(photo: Photo) -> str:
    """A digest of the bytes that a picture is read from; of one that is not there its name, as opening it will say so.

    They are read once in a process for each size, date, inode and moment of change: a file that is replaced by one as
    large and as old, as copying may do, or while the clock is set back, is another one all the same.
    """
    try:
        known = os.stat(getattr(photo, "file", photo))
    except OSError:
        return f"missing-{digest(str(photo))}"
    return _content(photo, known.st_size, known.st_mtime_ns, known.st_ctime_ns, known.st_ino)


@functools.lru_cache(maxsize=2**17)
def _content(photo: Photo, *_of_the_file: int) -> str:
    if isinstance(photo, ArrayPicture):
        content = np.ascontiguousarray(np.load(photo.file, mmap_mode="r")[photo.row]).tobytes()
    elif isinstance(photo, TarPicture):
        content = _member(photo).getvalue()
    else:
        content = Path(photo).read_bytes()
    return hashlib.sha256(content).hexdigest()[:32]


def why_unreadable(photo: Photo) -> str:
    """The sentence about a picture that cannot be read to its end; empty if it can."""
    try:
        open_photo(photo, upright=True, only_look=True)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def readable(photos: Sequence[Photo]) -> list[Photo]:
    """Those that can be read to their end; the others are left out with a warning that lists them.

    Of more than ``CHECKED`` all are kept: looking takes minutes, so a broken one is named when it is opened.
    """
    if len(photos) > CHECKED:
        return list(photos)
    sentences = list(openers().map(why_unreadable, photos))
    bad = [sentence for sentence in sentences if sentence]
    if bad:
        message = f"{len(bad)} of {len(photos)} pictures cannot be read and are left out: {' '.join(bad[:SHOWN])}"
        more = f" And {len(bad) - SHOWN} more." if len(bad) > SHOWN else ""
        warnings.warn(message + more, stacklevel=5)
    return [photo for photo, sentence in zip(photos, sentences) if not sentence]


def pictures_in(folder: Path) -> list[str]:
    """Paths of the pictures directly in a folder, sorted: file systems list them in any order."""
    return [f"{folder}/{name}" for name in sorted(p.name for p in folder.iterdir()) if is_picture(name)]


def class_folders(folder: Path) -> list[Path]:
    """The subfolders, sorted by name (code points, as CoOp's ``list.sort()``), without hidden ones.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: p.name)
    if not found:
        raise FileNotFoundError(2, "There is no subfolder of pictures", str(folder / "<class>"))
    return found


def _file_name(item: object) -> str:
    return PurePath(str(item)).name


def cut(
    items: Iterable, key: str, train: float, val: float, name_of: Callable[[object], str] = _file_name
) -> tuple[list, list, list]:
    """A seeded cut of one class into (train, val, test): each item's place is drawn by ``key`` and its own name.

    So the cut is the same wherever the items lie, and one item more moves at most two others out of any part.
    Shares are rounded as in CoOp's ``read_and_split_data``; at least one item is for training; test is the rest.
    """
    items = sorted(items, key=lambda item: (digest(key, name_of(item)), str(item)))
    first = max(1, round(train * len(items)))
    second = first + round(val * len(items))
    return sorted(items[:first]), sorted(items[first:second]), sorted(items[second:])


def sample(items: Iterable, most: int, key: str) -> list:
    """``most`` items, or all where there are fewer, sorted; a pure function of the set of items and of ``key``."""
    items = sorted(items)
    return sorted(random.Random(key).sample(items, min(most, len(items))))


def cut_classes(
    classes: Mapping[str, Iterable],
    key: str,
    train: float,
    val: float,
    name_of: Callable[[object], str] = _file_name,
) -> tuple[Labelled, Labelled, Labelled]:
    """``cut`` for each class, seeded by its name: what becomes of other classes moves none of its pictures.

    Label k is that of the k-th class, and each part is sorted by label, then path.
    """
    parts = ([], [], [])
    for label, (name, items) in enumerate(classes.items()):
        for part, chosen in zip(parts, cut(items, f"{key}/{name}", train, val, name_of), strict=True):
            part += [(item, label) for item in chosen]
    return parts


def of_labels(pairs: Labelled, n_classes: int) -> list[list[Photo]]:
    """The pictures of each label 0..C-1."""
    classes = [[] for _ in range(n_classes)]
    for photo, label in pairs:
        classes[label].append(photo)
    return classes
