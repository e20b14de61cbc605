"""Readers of the real data sets: their official lists, or a seeded cut of each class where there are none.

Each is given the folder of pictures and looks for its lists beside it.
"""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..support.disk import write_whole
from .lists import read_json_list, read_lines, read_mat, reading
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
        path = folder.parent / "annotations" / f"{part}.txt"
        lines = [line.split() for line in read_lines(path)]
        with reading(path, "the list of Oxford Pets"):
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


def read_cars(folder: Path) -> Files:
    """A class is "make model year", named with the year in front."""
    meta = folder / "devkit" / "cars_meta.mat"
    with reading(meta, "the list of Stanford Cars' names"):
        titles = [str(title).rsplit(" ", 1) for title in read_mat(meta)["class_names"]]
    parts = []
    for pictures, file in [("cars_train", "devkit/cars_train_annos.mat"),
                           ("cars_test", "cars_test_annos_withlabels.mat")]:  # fmt: skip
        with reading(folder / file, "a list of Stanford Cars"):
            rows = np.atleast_1d(read_mat(folder / file)["annotations"])
            parts.append([(f"{folder / pictures}/{row['fname']}", int(row["class"]) - 1) for row in rows])
    return _trainval([f"{year} {model}" for model, year in titles], *parts, key="stanford_cars")


def read_flowers(folder: Path) -> Files:
    """Cut anew: the official split has ten pictures a class for training, too few for sixteen shots."""
    path = folder.parent / "imagelabels.mat"
    with reading(path, "the labels of Flowers102"):
        labels = np.atleast_1d(read_mat(path)["labels"]).astype(int)
    pairs = [(f"{folder}/image_{number:05d}.jpg", int(label) - 1) for number, label in enumerate(labels, 1)]
    titles = folder.parent / "cat_to_name.json"
    if titles.exists():
        known = read_json_list(titles)
        with reading(titles, "CoOp's names of Flowers102"):
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
    names = read_lines(folder.parent / "variants.txt")
    label = {name: y for y, name in enumerate(names)}
    parts = []
    for part in ("train", "val", "test"):
        path = folder.parent / f"images_variant_{part}.txt"
        rows = read_lines(path)
        with reading(path, "a list of FGVC Aircraft"):
            pairs = [row.split(" ", 1) for row in rows]
            parts.append([(f"{folder}/{number}.jpg", label[name]) for number, name in pairs])
    return Files(names, *parts)


def read_sun(folder: Path) -> Files:
    """Official list 1 where it lies beside the pictures or in them; otherwise 50 pictures a class are drawn for it.

    A class is called by its path, last part first: /a/apartment_building/outdoor is "outdoor apartment_building".
    """
    lists = [p / "ClassName.txt" for p in (folder, folder.parent) if (p / "ClassName.txt").exists()]
    if not lists:
        raise FileNotFoundError(2, "No such file", str(folder / "ClassName.txt"))
    paths = [line.strip() for line in read_lines(lists[0])]  # /a/abbey, …
    names = [" ".join(reversed(path.split("/")[2:])) for path in paths]
    for home in (folder.parent, folder):
        if (home / "Testing_01.txt").exists() and (home / "Training_01.txt").exists():
            label = {path: y for y, path in enumerate(paths)}
            parts = []
            for path in (home / "Training_01.txt", home / "Testing_01.txt"):
                lines = [line.strip() for line in read_lines(path)]
                with reading(path, "a list of SUN397"):
                    parts.append([(f"{folder}{line}", label[line.rsplit("/", 1)[0]]) for line in lines])
            return _trainval(names, *parts, key="sun397")
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
        with reading(arrays, "a file of MedMNIST"), _archive(arrays) as packed:
            labels = packed[f"{part}_labels"].reshape(-1).tolist()
        parts.append([(ArrayPicture(str(pictures), row), label) for row, label in enumerate(labels)])
    return Files(list(PATHMNIST_NAMES), *parts)


@contextmanager
def _archive(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """An ``.npz`` file; zip's own error is no ValueError."""
    try:
        with np.load(path) as packed:
            yield packed
    except (zipfile.BadZipFile, zlib.error, OSError) as error:
        raise ValueError(str(error)) from error


def _unpack(archive: Path, member: Path) -> None:
    """One array out of an ``.npz``; under its own name only once it is whole."""
    with reading(archive, "a file of MedMNIST"), _archive(archive) as packed:
        if member.name.removesuffix(".npy") not in packed.files:
            raise ValueError(f"it has no {member.name}")

        def write(partial: Path) -> None:
            with packed.zip.open(member.name) as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target)

        write_whole(member, write)
