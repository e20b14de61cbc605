"""Real data sets: where their files lie, how they are split, what their classes are called.

One entry in ``DATASETS`` and one function that reads the official split make the next one.  The published splits
(``split_zhou_*.json``, CoOp) are used where they lie beside the pictures.
"""

from __future__ import annotations

import functools
import json
import os
import random
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image


class Files(NamedTuple):
    """Class names, and (path, label) pairs of the training and of the test pictures."""

    classnames: list[str]
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]]


@dataclass(frozen=True)
class Dataset:
    """What has to be known of one data set."""

    read: Callable[[Path], Files]  # root → the official split, fetched through torchvision where it is missing
    split: str  # what that split is, in words
    split_file: str  # the published split, which goes before
    folders: tuple[str, ...]  # under the root: torchvision's name, then CoOp's
    pictures: str  # the folder of pictures in there
    archives: tuple[str, ...]  # what to fetch by hand where there is no network
    template: str  # the teacher's prompt in KDPL


def open_photo(path: Path) -> Image.Image:
    """The picture as PIL RGB."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing: unpack its archive again, it was cut short.") from error


def _read_pets(root: Path) -> Files:
    """Official trainval and test lists; a class is named by its files' stem, in lower case."""
    from torchvision.datasets import OxfordIIITPet

    OxfordIIITPet(root, download=True)
    folder, names, parts = root / "oxford-iiit-pet", {}, []
    for part in ("trainval", "test"):
        lines = [line.split() for line in (folder / "annotations" / f"{part}.txt").read_text().splitlines()]
        parts.append([(folder / "images" / f"{stem}.jpg", int(label) - 1) for stem, label, *_ in lines])
        names.update({int(label) - 1: stem.rsplit("_", 1)[0].lower() for stem, label, *_ in lines})
    return Files([names[label] for label in sorted(names)], *parts)


EUROSAT_NAMES = {
    "AnnualCrop": "Annual Crop Land", "Forest": "Forest", "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road", "Industrial": "Industrial Buildings", "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land", "Residential": "Residential Buildings", "River": "River",
    "SeaLake": "Sea or Lake",
}  # fmt: skip


def _read_eurosat(root: Path) -> Files:
    """No official split exists: a seeded 50/20/30 cut of each class; the 20 % are for validation, left alone here."""
    from torchvision.datasets import EuroSAT

    data, train, test = EuroSAT(root, download=True), [], []
    for label, name in enumerate(data.classes):
        paths = sorted(Path(path) for path, y in data.samples if y == label)
        random.Random(f"eurosat/{name}").shuffle(paths)
        half, rest = round(0.5 * len(paths)), round(0.7 * len(paths))
        train += [(path, label) for path in paths[:half]]
        test += [(path, label) for path in paths[rest:]]
    return Files([EUROSAT_NAMES.get(name, name) for name in data.classes], train, test)


DATASETS = {
    "oxford_pets": Dataset(
        _read_pets, "the official trainval and test lists", "split_zhou_OxfordPets.json",
        ("oxford-iiit-pet", "oxford_pets"), "images", ("images.tar.gz", "annotations.tar.gz"),
        "a photo of a {}, a type of pet."),
    "eurosat": Dataset(
        _read_eurosat, "a seeded cut of each class into 50 % training, 20 % validation, 30 % test",
        "split_zhou_EuroSAT.json", ("eurosat",), "2750", ("EuroSAT.zip",), "a centered satellite photo of {}."),
}  # fmt: skip


def read_dataset(name: str, root: str | Path | None = None) -> Files:
    """Paths, labels and class names of a data set; fetched through torchvision where it is missing.

    Args:
        name: a key of ``DATASETS``.
        root: the folder of all data sets; by default ``$KDPL_DATA``, or else ``~/.cache/kdpl``.

    Raises:
        FileNotFoundError: it is not there and could not be fetched; says what to put where.
    """
    data, root = DATASETS[name], Path(root or os.environ.get("KDPL_DATA") or "~/.cache/kdpl").expanduser()
    files = _published_split(data, root)
    if files is None:
        try:
            official = data.read(root)
        except (OSError, RuntimeError) as error:  # no network, a broken archive, half an archive
            folder, archives = root / data.folders[0], " and ".join(data.archives)
            message = f"{name} is not in {folder} and could not be fetched: put {archives} there and load it again."
            raise FileNotFoundError(message) from error
        files = _published_split(data, root)  # it may have waited for its pictures
        if files is None:
            place = root / data.folders[0] / data.split_file
            message = f"{place} is not there, so {name} is split otherwise: {data.split}."
            warnings.warn(message, stacklevel=4)  # points at the call of load_world
            files = official
    return files._replace(classnames=[name.replace("_", " ") for name in files.classnames])


def _published_split(data: Dataset, root: Path) -> Files | None:
    """CoOp's split: lists of [path below the pictures' folder, label, class name] for train, val and test."""
    for folder in (root / name for name in data.folders):
        if (folder / data.split_file).exists() and (folder / data.pictures).is_dir():
            split = json.loads((folder / data.split_file).read_text(encoding="utf-8"))
            names = {label: name for part in split.values() for _, label, name in part}
            number = {label: i for i, label in enumerate(sorted(names))}
            pairs = {p: [(folder / data.pictures / path, number[y]) for path, y, _ in split[p]] for p in split}
            return Files([names[label] for label in sorted(names)], pairs["train"], pairs["test"])
    return None


@functools.cache
def imagenet21k_names() -> tuple[str, ...]:
    """About 20,000 names from WordNet: the first lemma of each ImageNet-21k class, in timm's order, each once."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    lemmas = (info.index_to_description(i).split(",")[0].strip() for i in range(info.num_classes()))
    return unique_names(lemmas)


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names in their order, each once; upper and lower case are one."""
    first = {}
    for name in names:
        first.setdefault(name.lower(), name)
    return tuple(first.values())
