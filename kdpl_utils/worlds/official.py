"""Readers of the real data sets: their official lists, or a seeded cut of each class where there are none.

Each is given the folder of pictures and looks for its lists beside it.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np

from ..support.extras import optional
from .photos import ArrayPicture, Files, Labelled, class_folders, cut_classes, of_labels, pictures_in, sample


def _trainval(names: list[str], trainval: Labelled, test: Labelled, key: str) -> Files:
    """The official test list; of the official training list, 20 % of each class are left for validation."""
    pictures_of = dict(zip(names, of_labels(trainval, len(names)), strict=True))
    train, val, _ = cut_classes(pictures_of, key, train=0.8, val=0.2)
    return Files(names, train, val, test)


def _folders(folder: Path, key: str, rename: dict[str, str] | None = None, ignore: tuple[str, ...] = ()) -> Files:
    """A subfolder for each class, numbered in the order of their names, cut 50/20/30; renamed after that."""
    classes = [path for path in class_folders(folder) if path.name not in ignore]
    parts = cut_classes({path.name: pictures_in(path) for path in classes}, key, train=0.5, val=0.2)
    return Files([(rename or {}).get(path.name, path.name) for path in classes], *parts)


def read_pets(folder: Path) -> Files:
    """A class is named by its files' stem, in lower case."""
    names, parts = {}, []
    for part in ("trainval", "test"):
        lines = [line.split() for line in (folder.parent / "annotations" / f"{part}.txt").read_text().splitlines()]
        parts.append([(f"{folder}/{stem}.jpg", int(label) - 1) for stem, label, *_ in lines])
        names.update({int(label) - 1: stem.rsplit("_", 1)[0].lower() for stem, label, *_ in lines})
    return _trainval([names[label] for label in sorted(names)], *parts, key="oxford_pets")


EUROSAT_NAMES = {
    "AnnualCrop": "Annual Crop Land", "Forest": "Forest", "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road", "Industrial": "Industrial Buildings", "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land", "Residential": "Residential Buildings", "River": "River",
    "SeaLake": "Sea or Lake",
}  # fmt: skip
CALTECH_NAMES = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
CALTECH_IGNORED = ("BACKGROUND_Google", "Faces_easy")


def read_eurosat(folder: Path) -> Files:
    return _folders(folder, "eurosat", EUROSAT_NAMES)


def read_caltech(folder: Path) -> Files:
    return _folders(folder, "caltech101", CALTECH_NAMES, CALTECH_IGNORED)


def read_dtd(folder: Path) -> Files:
    return _folders(folder, "dtd")


def read_food(folder: Path) -> Files:
    return _folders(folder, "food101")


def _read_mat(path: Path) -> dict:
    """A MATLAB file, read with SciPy; scalars and strings as such."""
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    return optional("scipy.io", "data").loadmat(path, squeeze_me=True)


def read_cars(folder: Path) -> Files:
    """A class is "make model year", named with the year in front."""
    titles = [str(title).rsplit(" ", 1) for title in _read_mat(folder / "devkit" / "cars_meta.mat")["class_names"]]
    parts = []
    for pictures, file in [("cars_train", "devkit/cars_train_annos.mat"),
                           ("cars_test", "cars_test_annos_withlabels.mat")]:  # fmt: skip
        rows = np.atleast_1d(_read_mat(folder / file)["annotations"])
        parts.append([(f"{folder / pictures}/{row['fname']}", int(row["class"]) - 1) for row in rows])
    return _trainval([f"{year} {model}" for model, year in titles], *parts, key="stanford_cars")


def read_flowers(folder: Path) -> Files:
    """Cut anew: the official split has ten pictures a class for training, too few for sixteen shots."""
    labels = np.atleast_1d(_read_mat(folder.parent / "imagelabels.mat")["labels"])
    pairs = [(f"{folder}/image_{number:05d}.jpg", int(label) - 1) for number, label in enumerate(labels, 1)]
    titles = folder.parent / "cat_to_name.json"
    if titles.exists():
        known = json.loads(titles.read_text(encoding="utf-8"))
        names = [known[str(number)] for number in range(1, len(known) + 1)]
    else:
        names = _flower_names()
    pictures_of = dict(zip(names, of_labels(pairs, len(names)), strict=True))
    return Files(names, *cut_classes(pictures_of, "flowers102", train=0.5, val=0.2))


def _flower_names() -> list[str]:
    from torchvision.datasets import Flowers102

    if not hasattr(Flowers102, "classes"):
        raise FileNotFoundError(2, "torchvision before 0.21 has no names of flowers: update it, or add CoOp's file",
                                "cat_to_name.json")  # fmt: skip
    return list(Flowers102.classes)


def read_aircraft(folder: Path) -> Files:
    """The official variants and their three lists."""
    names = (folder.parent / "variants.txt").read_text().splitlines()
    label = {name: y for y, name in enumerate(names)}
    parts = []
    for part in ("train", "val", "test"):
        rows = (folder.parent / f"images_variant_{part}.txt").read_text().splitlines()
        pairs = (row.split(" ", 1) for row in rows if row)
        parts.append([(f"{folder}/{number}.jpg", label[name]) for number, name in pairs])
    return Files(names, *parts)


def read_sun(folder: Path) -> Files:
    """Official list 1 where it lies beside the pictures or in them; otherwise 50 pictures a class are drawn for it.

    A class is called by its path, last part first: /a/apartment_building/outdoor is "outdoor apartment_building".
    """
    lists = [p / "ClassName.txt" for p in (folder, folder.parent) if (p / "ClassName.txt").exists()]
    if not lists:
        raise FileNotFoundError(2, "No such file", str(folder / "ClassName.txt"))
    paths = lists[0].read_text().split()  # /a/abbey, …
    names = [" ".join(reversed(path.split("/")[2:])) for path in paths]
    for home in (folder.parent, folder):
        if (home / "Testing_01.txt").exists() and (home / "Training_01.txt").exists():
            label = {path: y for y, path in enumerate(paths)}
            trainval, test = (
                [(f"{folder}{line}", label[line.rsplit("/", 1)[0]]) for line in (home / file).read_text().split()]
                for file in ("Training_01.txt", "Testing_01.txt")
            )
            return _trainval(names, trainval, test, key="sun397")
    classes = [pictures_in(Path(f"{folder}{path}")) for path in paths]
    drawn = {path: sample(photos, 100, f"sun397/{path}") for path, photos in zip(paths, classes, strict=True)}
    return Files(names, *cut_classes(drawn, "sun397", train=0.4, val=0.1))


def read_ucf(folder: Path) -> Files:
    """Middle frames of the clips; official list 1 tests on groups 1 to 7, the number after ``_g`` in a clip's name."""
    # In the order of the official classInd.txt, where Hammering comes before HammerThrow.
    folders = sorted(class_folders(folder), key=lambda path: path.name.replace("_", "").lower())
    parts = ([], [])
    for label, path in enumerate(folders):
        for photo in pictures_in(path):
            group = re.search(r"_g(\d+)_c\d+\.", photo)
            if group is None:
                raise ValueError(f"{photo} is no frame of UCF101: its name lacks the group, as in v_YoYo_g01_c01.jpg.")
            parts[int(group[1]) <= 7].append((photo, label))
    names = ["_".join(re.findall("[A-Z][^A-Z]*", path.name.replace("_", ""))) for path in folders]
    return _trainval(names, *parts, key="ucf101")


PATHMNIST_NAMES = (
    "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
    "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
)  # fmt: skip


def read_pathmnist(folder: Path) -> Files:
    """The largest of MedMNIST's files that is there; its pictures are unpacked once, so that they can be mapped."""
    files = [folder / f"pathmnist{size}.npz" for size in ("_224", "_128", "_64", "")]
    if not (there := [file for file in files if file.exists()]):
        raise FileNotFoundError(2, "No such file", str(folder / "pathmnist_64.npz"))
    arrays, parts = there[0], []
    for part in ("train", "val", "test"):
        pictures = folder / arrays.stem / f"{part}_images.npy"
        if not pictures.exists():
            _unpack(arrays, pictures)
        with np.load(arrays) as packed:
            labels = packed[f"{part}_labels"].reshape(-1).tolist()
        parts.append([(ArrayPicture(str(pictures), row), label) for row, label in enumerate(labels)])
    return Files(list(PATHMNIST_NAMES), *parts)


def _unpack(archive: Path, member: Path) -> None:
    """One array out of an ``.npz``; under its own name only once it is whole."""
    member.parent.mkdir(exist_ok=True)
    part = member.with_suffix(".part")
    with zipfile.ZipFile(archive) as packed, packed.open(member.name) as source, part.open("wb") as target:
        shutil.copyfileobj(source, target)
    part.replace(member)
