"""ImageNet-1k and the four sets that are drawn from its classes: V2, Sketch, A, R."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

from .photos import Files, Labelled, class_folders, pictures_in

SHIFTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")


@functools.cache
def imagenet_names() -> dict[str, str]:
    """WordNet id → class name of the 1,000 classes, in the order of their ids, which is that of the labels.

    The names are open_clip's ``IMAGENET_CLASSNAMES``, the list of OpenAI's CLIP notebook, where two names stand for
    two classes each.  No classifier could tell such a pair apart, so the class whose first word in WordNet is another
    one takes that: n04008634 "missile" becomes "projectile", n04355933 "sunglasses" becomes "sunglass".
    """
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    info, times = ImageNetInfo("imagenet-1k"), Counter(IMAGENET_CLASSNAMES)
    names = {}
    for label, name in enumerate(IMAGENET_CLASSNAMES):
        if times[name] > 1 and (first := info.index_to_description(label).split(",")[0]) != name:
            name = first
        names[info.index_to_label_name(label)] = name
    return names


def _wnid(folder: str) -> str:
    """ImageNet-V2 numbers its folders by label, the others name them by WordNet id."""
    wnids = list(imagenet_names())
    if folder.isdecimal() and int(folder) < len(wnids):
        return wnids[int(folder)]
    if folder not in imagenet_names():
        raise ValueError(f"A folder is called {folder!r}, which is no class of ImageNet-1k: is this another data set?")
    return folder


def _by_wnid(folder: Path) -> dict[str, Path]:
    return {_wnid(path.name): path for path in class_folders(folder)}


def _files(train: dict[str, Path], test: dict[str, Path]) -> Files:
    """The classes are those whose folders are there, sorted by WordNet id and numbered from 0."""
    wnids = sorted({*train, *test})

    def part(folders: dict[str, Path]) -> Labelled:
        return [(photo, y) for y, w in enumerate(wnids) if w in folders for photo in pictures_in(folders[w])]

    return Files([imagenet_names()[w] for w in wnids], part(train), [], part(test))


def read_imagenet(folder: Path) -> Files:
    """``train`` and ``val``, a subfolder for each WordNet id; the test pictures are those of ``val``, as in the paper.

    Without ``train`` it can still be tested on.  For validation nothing is left: cut it from ``train``.
    """
    train = folder / "train"
    return _files(_by_wnid(train) if train.is_dir() else {}, _by_wnid(folder / "val"))


def read_imagenet_shift(folder: Path) -> Files:
    """Test pictures only, of the 1,000 or 200 classes whose folders are there."""
    return _files({}, _by_wnid(folder))
