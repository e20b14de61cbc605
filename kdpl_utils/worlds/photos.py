"""Pictures that lie in files: found, cut into splits, and opened when looked at."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")


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


def open_photo(photo: Photo, upright: bool = False) -> Image.Image:
    """The picture as PIL RGB.

    Args:
        upright: turn it as its camera noted (EXIF); left as it is in the published data sets, as everywhere.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no picture, or was cut short.
    """
    if isinstance(photo, ArrayPicture):
        return Image.fromarray(_mapped(photo.file)[photo.row]).convert("RGB")
    try:
        with Image.open(_member(photo) if isinstance(photo, TarPicture) else photo) as image:
            return (ImageOps.exif_transpose(image) if upright else image).convert("RGB")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{photo} is missing: unpack its archive again, it was cut short.") from error
    except (OSError, SyntaxError) as error:  # PIL's: no picture, a truncated one, a broken header
        message = f"{photo} cannot be read as a picture ({error}): fetch or convert it again, or remove it."
        raise ValueError(message) from error


def _member(photo: TarPicture) -> io.BytesIO:
    with open(photo.file, "rb") as archive:
        archive.seek(photo.offset)
        return io.BytesIO(archive.read(photo.size))


@functools.lru_cache(maxsize=8)
def _mapped(file: str) -> np.ndarray:
    return np.load(file, mmap_mode="r")


def is_readable(path: str | Path) -> bool:
    """Whether a file begins as a picture does; nothing is decoded, so one that was cut short passes."""
    try:
        with Image.open(path):
            return True
    except (OSError, SyntaxError, UnidentifiedImageError):
        return False


def is_picture(name: str) -> bool:
    """By its name alone; hidden files (macOS writes ``._photo.jpg``) are none."""
    return name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")


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


def cut(items: Iterable, key: str, train: float, val: float) -> tuple[list, list, list]:
    """A seeded cut of one class into (train, val, test), a pure function of the set of items and of ``key``.

    Shares are rounded as in CoOp's ``read_and_split_data``; at least one item is for training; test is the rest.
    """
    items = sorted(items)
    random.Random(key).shuffle(items)
    first = max(1, round(train * len(items)))
    second = first + round(val * len(items))
    return sorted(items[:first]), sorted(items[first:second]), sorted(items[second:])


def sample(items: Iterable, most: int, key: str) -> list:
    """``most`` items, or all where there are fewer, sorted; a pure function of the set of items and of ``key``."""
    items = sorted(items)
    return sorted(random.Random(key).sample(items, min(most, len(items))))


def cut_classes(classes: Sequence[Iterable], key: str, train: float, val: float) -> tuple[Labelled, Labelled, Labelled]:
    """``cut`` for each class; label k is that of ``classes[k]``, and each part is sorted by label, then path."""
    parts = ([], [], [])
    for label, items in enumerate(classes):
        for part, chosen in zip(parts, cut(items, f"{key}/{label}", train, val), strict=True):
            part += [(item, label) for item in chosen]
    return parts


def of_labels(pairs: Labelled, n_classes: int) -> list[list[Photo]]:
    """The pictures of each label 0..C-1."""
    classes = [[] for _ in range(n_classes)]
    for photo, label in pairs:
        classes[label].append(photo)
    return classes
