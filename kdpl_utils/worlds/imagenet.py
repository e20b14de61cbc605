"""ImageNet-1k and the four sets that are drawn from its classes: V2, Sketch, A, R."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

from .photos import Files, Labelled, class_folders, pictures_in

SHIFTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")


@functools.cache
def imagenet_names(file: Path | None = None) -> dict[str, str]:
    """WordNet id → class name of the 1,000 classes, in the order of their ids, which is that of the labels.

    The names are those of CoOp's ``classnames.txt`` where it lies beside the pictures, else open_clip's
    ``IMAGENET_CLASSNAMES``, where two names stand for two classes each. No classifier could tell such a pair apart, so
    the class whose first word in WordNet is another one takes that: "missile" becomes "projectile".
    """
    if file is not None:
        return dict(sorted(line.split(" ", 1) for line in file.read_text(encoding="utf-8-sig").splitlines() if line))
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    times = Counter(IMAGENET_CLASSNAMES)
    names = {}
    for label, name in enumerate(IMAGENET_CLASSNAMES):
        first = info.index_to_description(label).split(",")[0]
        names[info.index_to_label_name(label)] = first if times[name] > 1 else name
    return names


def _by_wnid(folder: Path) -> dict[str, Path]:
    """WordNet id → the folder of its pictures; ImageNet-V2 numbers its folders by label."""
    wnids = list(imagenet_names())
    return {wnids[int(path.name)] if path.name.isdecimal() else path.name: path for path in class_folders(folder)}


def _files(folder: Path, train: dict[str, Path], test: dict[str, Path]) -> Files:
    """The classes are those whose folders are there, sorted by WordNet id and numbered from 0."""
    own = next((p / "classnames.txt" for p in (folder, folder.parent) if (p / "classnames.txt").exists()), None)
    wnids = sorted({*train, *test})

    def part(folders: dict[str, Path]) -> Labelled:
        return [(path, y) for y, w in enumerate(wnids) if w in folders for path in pictures_in(folders[w])]

    return Files([imagenet_names(own)[w] for w in wnids], part(train), [], part(test))


def read_imagenet(folder: Path) -> Files:
    """``train`` and ``val``, a subfolder for each WordNet id; the test pictures are those of ``val``, as in the paper.

    Without ``train`` it can still be tested on.
    """
    train = folder / "train"
    return _files(folder, _by_wnid(train) if train.is_dir() else {}, _by_wnid(folder / "val"))


def read_imagenet_shift(folder: Path) -> Files:
    """Test pictures only, of the 1,000 or 200 classes whose folders are there."""
    return _files(folder, {}, _by_wnid(folder))
