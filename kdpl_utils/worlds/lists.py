"""The lists that come with real data sets: CoOp's published splits, and others where those are missing."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from .photos import Files, class_folders, cut_classes, pictures_in

# Published names that are not those of the folders, or of torchvision, by more than underscores.
NAMES = {
    "AnnualCrop": "Annual Crop Land", "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road", "Industrial": "Industrial Buildings", "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land", "Residential": "Residential Buildings", "SeaLake": "Sea or Lake",
    "airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike",
    "pink-yellow dahlia?": "pink-yellow dahlia",
}  # fmt: skip
CALTECH_IGNORED = ("BACKGROUND_Google", "Faces_easy")


def published_split(file: Path, pictures: Path) -> Files:
    """Read CoOp's split: lists of [path below the pictures' folder, label, class name] for train, val and test.

    The order of the lists is kept, since the published few shots follow from it (``coop_few_shot``).
    """
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    names: dict[int, str] = {}
    parts = {}
    for part in ("train", "val", "test"):
        rows = content[part]
        if any(PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts for path, _, _ in rows):
            raise ValueError("a path leads out of the folder of pictures")
        parts[part] = [(f"{pictures}/{path}", label) for path, label, _ in rows]
        names.update({label: name for _, label, name in rows})
    if not names or sorted(names) != list(range(len(names))):
        raise ValueError("its labels are not 0, 1, 2, …")
    return Files([names[label] for label in sorted(names)], **parts)


def cut_anew(pictures: Path, key: str) -> Files:
    """Cut each class into 50 % training, 20 % validation and 30 % test; the key seeds the cut."""
    if key == "oxford_pets":
        classes = _by_class((Path(path).stem.rsplit("_", 1)[0].lower(), path) for path in pictures_in(pictures))
        classes = dict(sorted(classes.items()))
    elif key == "flowers102":
        from scipy.io import loadmat
        from torchvision.datasets import Flowers102

        labels = loadmat(pictures.parent / "imagelabels.mat")["labels"].flatten()
        paths = pictures_in(pictures)
        classes = _by_class((Flowers102.classes[y - 1], path) for y, path in zip(labels, paths, strict=True))
        classes = {name: classes[name] for name in Flowers102.classes}
    else:
        folders = [path for path in class_folders(pictures) if path.name not in CALTECH_IGNORED]
        classes = {path.name: pictures_in(path) for path in folders}
    return Files([NAMES.get(name, name) for name in classes], *cut_classes(classes, key, train=0.5, val=0.2))


def _by_class(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    classes: dict[str, list[str]] = {}
    for name, path in pairs:
        classes.setdefault(name, []).append(path)
    return classes


def aircraft_files(pictures: Path) -> Files:
    """Read the official variants and their three lists."""
    names = (pictures.parent / "variants.txt").read_text().splitlines()
    parts = []
    for part in ("train", "val", "test"):
        rows = (pictures.parent / f"images_variant_{part}.txt").read_text().splitlines()
        parts.append([(f"{pictures}/{row.split()[0]}.jpg", names.index(row.split(" ", 1)[1])) for row in rows])
    return Files(names, *parts)


def imagenet_files(pictures: Path) -> Files:
    """Read ImageNet, with subfolders of ``train`` and ``val``, or a test set drawn from its classes.

    As in the paper, ``val`` is tested on. Subfolders are called by WordNet ids, those of ImageNet-V2 by labels.
    """
    names = imagenet_names()
    numbered = list(names)
    test = pictures / "val" if (pictures / "val").is_dir() else pictures
    lists: dict[Path, list[tuple[str, str]]] = {}  # folder → paths with WordNet ids
    for part in (pictures / "train", test):
        folders = class_folders(part) if part.is_dir() else []
        called = [(f, numbered[int(f.name)] if f.name.isdecimal() else f.name) for f in folders]
        lists[part] = [(path, wnid) for f, wnid in sorted(called, key=lambda c: c[1]) for path in pictures_in(f)]
    wnids = sorted({wnid for pairs in lists.values() for _, wnid in pairs})
    label = {wnid: y for y, wnid in enumerate(wnids)}
    train_pairs, test_pairs = ([(path, label[wnid]) for path, wnid in pairs] for pairs in lists.values())
    return Files([names[wnid] for wnid in wnids], train_pairs, [], test_pairs)


@functools.cache
def imagenet_names() -> dict[str, str]:
    """Return WordNet id → class name of the 1,000 classes, in the order of their ids, which is that of the labels.

    The names are open_clip's, of which two stand for two classes each: a class whose first word in WordNet is another
    one takes that.
    """
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names = {}
    for label, name in enumerate(IMAGENET_CLASSNAMES):
        first = info.index_to_description(label).split(",")[0]
        names[info.index_to_label_name(label)] = first if IMAGENET_CLASSNAMES.count(name) > 1 else name
    return names
