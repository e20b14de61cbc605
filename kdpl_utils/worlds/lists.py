"""The lists that come with real data sets: CoOp's published splits, and other ones where those are missing."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from .photos import Files, Labelled, class_folders, cut_classes, pictures_in

# The published names of torchvision's classes, where they differ by more than underscores.
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


def class_folder_files(pictures: Path, key: str) -> Files:
    """Cut a folder that has a subfolder for each class."""
    folders = [path for path in class_folders(pictures) if path.name not in CALTECH_IGNORED]
    classes = {path.name: pictures_in(path) for path in folders}
    return Files([NAMES.get(name, name) for name in classes], *cut_classes(classes, key, train=0.5, val=0.2))


def torchvision_files(kind: str, root: Path, parts: Sequence[str], key: str) -> Files:
    """Read the lists of a data set of torchvision.

    Its official training pictures are cut into 80 % training and 20 % validation. SUN397, whose own lists torchvision
    does not read, and Flowers102, whose official lists have too few pictures for 16 shots, are cut anew.
    """
    import torchvision.datasets

    make = getattr(torchvision.datasets, kind)
    sets = [make(root, part) for part in parts] or [make(root)]
    pairs = [_pairs(one) for one in sets]
    names = [_published_name(kind, name) for name in sets[0].classes]
    if kind == "SUN397":
        return Files(names, *cut_classes(_by_class(names, pairs[0]), key, train=0.4, val=0.1, most=100))
    if kind == "Flowers102":
        return Files(names, *cut_classes(_by_class(names, sum(pairs, [])), key, train=0.5, val=0.2))
    train, val, _ = cut_classes(_by_class(names, pairs[0]), key, train=0.8, val=0.2)
    return Files(names, train, val, pairs[1])


def _pairs(data) -> Labelled:
    """Return (path, label) of each picture of torchvision's data set, none of them opened."""
    if hasattr(data, "_samples"):
        return [(str(path), int(label)) for path, label in data._samples]
    paths = getattr(data, "_image_files", None) or data._images
    return [(str(path), int(label)) for path, label in zip(paths, data._labels)]


def _published_name(kind: str, name: str) -> str:
    if kind == "OxfordIIITPet":
        return name.lower()
    if kind == "StanfordCars":  # "make model year", published with the year in front
        return " ".join(name.rsplit(" ", 1)[::-1])
    return " ".join(NAMES.get(name, name).split("/")[::-1])  # SUN397: "apartment_building/outdoor"


def _by_class(names: Sequence[str], pairs: Labelled) -> dict[str, list[str]]:
    classes: dict[str, list[str]] = {name: [] for name in names}
    for path, label in pairs:
        classes[names[label]].append(path)
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
    own = next((p / "classnames.txt" for p in (pictures, pictures.parent) if (p / "classnames.txt").exists()), None)
    names = imagenet_names(own)
    has_parts = (pictures / "val").is_dir()
    test = _by_wnid(pictures / "val" if has_parts else pictures, names)
    train = _by_wnid(pictures / "train", names) if (pictures / "train").is_dir() else {}
    wnids = sorted({*train, *test})

    def part(folders: dict[str, Path]) -> Labelled:
        return [(path, y) for y, wnid in enumerate(wnids) if wnid in folders for path in pictures_in(folders[wnid])]

    return Files([names[wnid] for wnid in wnids], part(train), [], part(test))


def _by_wnid(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    wnids = list(names)
    return {wnids[int(path.name)] if path.name.isdecimal() else path.name: path for path in class_folders(folder)}


@functools.cache
def imagenet_names(file: Path | None = None) -> dict[str, str]:
    """Return WordNet id → class name of the 1,000 classes, in the order of their ids, which is that of the labels.

    The names are those of CoOp's ``classnames.txt`` where it lies beside the pictures, else open_clip's. Two of
    open_clip's names stand for two classes each; a class whose first word in WordNet is another one takes that.
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
