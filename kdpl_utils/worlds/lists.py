"""The lists that come with real data sets: CoOp's published splits, and official ones where those are not there.

Each reader is given the folder of pictures and looks for its lists beside it, in torchvision's layout and in CoOp's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .photos import Files, Labelled, class_folders, cut_classes, pictures_in

EUROSAT_NAMES = {
    "AnnualCrop": "Annual Crop Land", "Forest": "Forest", "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road", "Industrial": "Industrial Buildings", "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land", "Residential": "Residential Buildings", "River": "River",
    "SeaLake": "Sea or Lake",
}  # fmt: skip
CALTECH_NAMES = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
CALTECH_IGNORED = ("BACKGROUND_Google", "Faces_easy")
SUN_PER_CLASS = 100  # pictures drawn of each class where SUN397's own lists are missing: 40, 10 and 50


def read_published_split(file: Path, pictures: Path) -> Files:
    """CoOp's split: lists of [path below the pictures' folder, label, class name] for train, val and test.

    The order of the lists is kept, since the published few shots follow from it (``coop_few_shot``).
    """
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    names: dict[int, str] = {}
    parts = {}
    for part in ("train", "val", "test"):
        rows = content.get(part, []) if part == "val" else content[part]
        if any(PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts for path, _, _ in rows):
            raise ValueError("a path leads out of the folder of pictures")
        parts[part] = [(f"{pictures}/{path}", label) for path, label, _ in rows]
        names.update({label: name for _, label, name in rows})
    if sorted(names) != list(range(len(names))):
        raise ValueError("its labels are not 0, 1, 2, …")
    return Files([names[label] for label in sorted(names)], **parts)


def _trainval(names: Sequence[str], trainval: Labelled, test: Labelled, key: str) -> Files:
    """The official test list; of the official training list, 20 % of each class are left for validation."""
    train, val, _ = cut_classes(_by_class(names, trainval), key, train=0.8, val=0.2)
    return Files(names, train, val, test)


def _by_class(names: Sequence[str], pairs: Labelled) -> dict[str, list[str]]:
    classes: list[list[str]] = [[] for _ in names]
    for path, label in pairs:
        classes[label].append(path)
    return dict(zip(names, classes, strict=True))


def _folders(folder: Path, key: str, rename: dict[str, str], ignore: Sequence[str] = ()) -> Files:
    """A subfolder for each class, numbered in the order of their names, cut 50/20/30; renamed after that."""
    classes = [path for path in class_folders(folder) if path.name not in ignore]
    parts = cut_classes({path.name: pictures_in(path) for path in classes}, key, train=0.5, val=0.2)
    return Files([rename.get(path.name, path.name) for path in classes], *parts)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def read_mat(path: Path) -> dict:
    """A MATLAB file; scalars and strings as such."""
    from scipy.io import loadmat

    return loadmat(path, squeeze_me=True)


def read_pets(folder: Path) -> Files:
    """A class is named by its files' stem, in lower case."""
    names: dict[int, str] = {}
    parts = []
    for part in ("trainval", "test"):
        rows = [line.split() for line in _lines(folder.parent / "annotations" / f"{part}.txt")]
        parts.append([(f"{folder}/{stem}.jpg", int(label) - 1) for stem, label, *_ in rows])
        names.update({int(label) - 1: stem.rsplit("_", 1)[0].lower() for stem, label, *_ in rows})
    return _trainval([names[label] for label in sorted(names)], *parts, key="oxford_pets")


def read_eurosat(folder: Path) -> Files:
    return _folders(folder, "eurosat", EUROSAT_NAMES)


def read_caltech(folder: Path) -> Files:
    return _folders(folder, "caltech101", CALTECH_NAMES, CALTECH_IGNORED)


def read_dtd(folder: Path) -> Files:
    return _folders(folder, "dtd", {})


def read_food(folder: Path) -> Files:
    return _folders(folder, "food101", {})


def read_cars(folder: Path) -> Files:
    """A class is "make model year", named with the year in front."""
    titles = [str(title).rsplit(" ", 1) for title in read_mat(folder / "devkit" / "cars_meta.mat")["class_names"]]
    lists = {"cars_train": "devkit/cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
    parts = []
    for pictures, file in lists.items():
        rows = read_mat(folder / file)["annotations"].reshape(-1)
        parts.append([(f"{folder / pictures}/{row['fname']}", int(row["class"]) - 1) for row in rows])
    return _trainval([f"{year} {model}" for model, year in titles], *parts, key="stanford_cars")


def read_flowers(folder: Path) -> Files:
    """Cut anew: the official split has ten pictures a class for training, too few for sixteen shots."""
    labels = read_mat(folder.parent / "imagelabels.mat")["labels"].reshape(-1)
    pairs = [(f"{folder}/image_{number:05d}.jpg", int(label) - 1) for number, label in enumerate(labels, 1)]
    titles = folder.parent / "cat_to_name.json"
    if titles.exists():
        known = json.loads(titles.read_text(encoding="utf-8-sig"))
        names = [known[str(number)] for number in range(1, len(known) + 1)]
    else:
        from torchvision.datasets import Flowers102

        names = [name.rstrip("?") for name in Flowers102.classes]  # torchvision doubts the "pink-yellow dahlia?"
    return Files(names, *cut_classes(_by_class(names, pairs), "flowers102", train=0.5, val=0.2))


def read_aircraft(folder: Path) -> Files:
    """The official variants and their three lists."""
    names = _lines(folder.parent / "variants.txt")
    parts = []
    for part in ("train", "val", "test"):
        rows = [row.split(" ", 1) for row in _lines(folder.parent / f"images_variant_{part}.txt")]
        parts.append([(f"{folder}/{number}.jpg", names.index(name)) for number, name in rows])
    return Files(names, *parts)


def read_sun(folder: Path) -> Files:
    """Official list 1 where it lies beside the pictures or in them; otherwise pictures are drawn of each class.

    A class is called by its path, last part first: /a/apartment_building/outdoor is "outdoor apartment_building".
    """
    home = folder if (folder / "ClassName.txt").exists() else folder.parent
    paths = [line.strip() for line in _lines(home / "ClassName.txt")]  # /a/abbey, …
    names = [" ".join(reversed(path.split("/")[2:])) for path in paths]
    for place in (folder.parent, folder):
        lists = [place / "Training_01.txt", place / "Testing_01.txt"]
        if all(path.exists() for path in lists):
            label = {path: y for y, path in enumerate(paths)}
            parts = [[(f"{folder}{row}", label[row.rsplit("/", 1)[0]]) for row in _lines(path)] for path in lists]
            return _trainval(names, *parts, key="sun397")
    drawn = {}
    for path in paths:
        (some, _, _) = cut_classes({path: pictures_in(Path(f"{folder}{path}"))}, "sun397/drawn", train=1, val=0)
        drawn[path] = [picture for picture, _ in some][:SUN_PER_CLASS]
    return Files(names, *cut_classes(drawn, "sun397", train=0.4, val=0.1))


def read_ucf(folder: Path) -> Files:
    """Middle frames of the clips; official list 1 tests on groups 1 to 7, the number after ``_g`` in a clip's name."""
    # In the order of the official classInd.txt, where Hammering comes before HammerThrow.
    folders = sorted(class_folders(folder), key=lambda path: path.name.replace("_", "").lower())
    parts: tuple[Labelled, Labelled] = ([], [])
    for label, path in enumerate(folders):
        for picture in pictures_in(path):
            group = int(re.search(r"_g(\d+)_c\d+\.", picture)[1])
            parts[group <= 7].append((picture, label))
    names = ["_".join(re.findall("[A-Z][^A-Z]*", path.name.replace("_", ""))) for path in folders]
    return _trainval(names, *parts, key="ucf101")
