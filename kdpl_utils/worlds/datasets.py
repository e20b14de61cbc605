"""Real data sets: where their files lie, how they are split, what their classes are called.

One entry in ``DATASETS`` and one function that reads the official lists make the next one.  Both layouts are known,
torchvision's and CoOp's, and the published splits (``split_zhou_*.json``, CoOp) are used where they lie beside the
pictures.  Where they do not, the same shares are cut anew: the same pictures for testing where those are official,
others where they are not, which is said in a warning.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..support.extras import optional
from .imagenet import SHIFTS, read_imagenet, read_imagenet_shift
from .photos import ArrayPicture, Files, Labelled, class_folders, cut_classes, of_labels, pictures_in, sample


@dataclass(frozen=True)
class Dataset:
    """What has to be known of one data set; folders are relative to the root of all data sets."""

    read: Callable[[Path], Files]  # the folder of pictures → the official split
    pictures: tuple[str, ...]  # where that folder may be: torchvision's place and CoOp's
    template: str  # the teacher's prompt in KDPL
    archives: tuple[str, ...]  # what to fetch by hand: addresses, or names with the page that has them
    place: str  # and the folder to put it in
    split: str = ""  # what the split is without the published one, in words; empty: it is the published one
    split_file: str = ""  # the published split, which goes before
    fetch: Callable[[Path], None] | None = None  # root → fetched and unpacked, or unpacked only, through torchvision
    shifts: tuple[str, ...] = ()  # other data sets with these classes


def _torchvision(name: str, needs: tuple[str, ...] = (), folder: str = "", **arguments) -> Callable[[Path], None]:
    def fetch(root: Path) -> None:
        import torchvision.datasets

        for module in needs:
            optional(module, "data")
        getattr(torchvision.datasets, name)(root / folder, download=True, **arguments)

    return fetch


# Readers: each is given the folder of pictures and looks for its lists beside it.


def _trainval(names: list[str], trainval: Labelled, test: Labelled, key: str) -> Files:
    """The official test list; of the official training list, 20 % of each class are left for validation."""
    train, val, _ = cut_classes(of_labels(trainval, len(names)), key, train=0.8, val=0.2)
    return Files(names, train, val, test)


def _folders(folder: Path, key: str, rename: dict[str, str] | None = None, ignore: tuple[str, ...] = ()) -> Files:
    """A subfolder for each class, numbered in the order of their names, cut 50/20/30; renamed after that."""
    classes = [path for path in class_folders(folder) if path.name not in ignore]
    parts = cut_classes([pictures_in(path) for path in classes], key, train=0.5, val=0.2)
    return Files([(rename or {}).get(path.name, path.name) for path in classes], *parts)


def _read_pets(folder: Path) -> Files:
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


def _read_eurosat(folder: Path) -> Files:
    return _folders(folder, "eurosat", EUROSAT_NAMES)


def _read_caltech(folder: Path) -> Files:
    return _folders(folder, "caltech101", CALTECH_NAMES, CALTECH_IGNORED)


def _read_dtd(folder: Path) -> Files:
    return _folders(folder, "dtd")


def _read_food(folder: Path) -> Files:
    return _folders(folder, "food101")


def _read_mat(path: Path) -> dict:
    """A MATLAB file, read with SciPy; scalars and strings as such."""
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    return optional("scipy.io", "data").loadmat(path, squeeze_me=True)


def _read_cars(folder: Path) -> Files:
    """A class is "make model year", named with the year in front."""
    titles = [str(title).rsplit(" ", 1) for title in _read_mat(folder / "devkit" / "cars_meta.mat")["class_names"]]
    parts = []
    for pictures, file in [("cars_train", "devkit/cars_train_annos.mat"),
                           ("cars_test", "cars_test_annos_withlabels.mat")]:  # fmt: skip
        rows = np.atleast_1d(_read_mat(folder / file)["annotations"])
        parts.append([(f"{folder / pictures}/{row['fname']}", int(row["class"]) - 1) for row in rows])
    return _trainval([f"{year} {model}" for model, year in titles], *parts, key="stanford_cars")


def _read_flowers(folder: Path) -> Files:
    """Cut anew: the official split has ten pictures a class for training, too few for sixteen shots."""
    labels = np.atleast_1d(_read_mat(folder.parent / "imagelabels.mat")["labels"])
    pairs = [(f"{folder}/image_{number:05d}.jpg", int(label) - 1) for number, label in enumerate(labels, 1)]
    titles = folder.parent / "cat_to_name.json"
    if titles.exists():
        known = json.loads(titles.read_text(encoding="utf-8"))
        names = [known[str(number)] for number in range(1, len(known) + 1)]
    else:
        names = _flower_names()
    return Files(names, *cut_classes(of_labels(pairs, len(names)), "flowers102", train=0.5, val=0.2))


def _flower_names() -> list[str]:
    from torchvision.datasets import Flowers102

    if not hasattr(Flowers102, "classes"):
        raise FileNotFoundError(2, "torchvision before 0.21 has no names of flowers: update it, or add CoOp's file",
                                "cat_to_name.json")  # fmt: skip
    return list(Flowers102.classes)


def _read_aircraft(folder: Path) -> Files:
    """The official variants and their three lists."""
    names = (folder.parent / "variants.txt").read_text().splitlines()
    label = {name: y for y, name in enumerate(names)}
    parts = []
    for part in ("train", "val", "test"):
        rows = (folder.parent / f"images_variant_{part}.txt").read_text().splitlines()
        pairs = (row.split(" ", 1) for row in rows if row)
        parts.append([(f"{folder}/{number}.jpg", label[name]) for number, name in pairs])
    return Files(names, *parts)


def _read_sun(folder: Path) -> Files:
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
    drawn = [sample(photos, 100, f"sun397/{path}") for path, photos in zip(paths, classes, strict=True)]
    return Files(names, *cut_classes(drawn, "sun397", train=0.4, val=0.1))


def _read_ucf(folder: Path) -> Files:
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


def _read_pathmnist(folder: Path) -> Files:
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


def _fetch_pathmnist(root: Path) -> None:
    medmnist = optional("medmnist", "data")
    (root / "medmnist").mkdir(parents=True, exist_ok=True)
    medmnist.PathMNIST("train", download=True, root=root / "medmnist", size=64)


def _unpack_imagenet(root: Path) -> None:
    """torchvision unpacks ImageNet's archives into folders by WordNet id; it may not fetch them."""
    from torchvision.datasets import ImageNet

    there = [part for part in ("val", "train") if (root / "imagenet" / f"ILSVRC2012_img_{part}.tar").exists()]
    if there:
        optional("scipy.io", "data")
    for part in there or ["val"]:  # which raises
        ImageNet(root / "imagenet", part)


CUT = "a seeded cut of each class into 50 % training, 20 % validation, 30 % test"
TRAINVAL = "the official trainval and test lists, a seeded 20 % of each class of trainval left for validation"
CARS_PAGE = "Stanford's page is gone, so look where github.com/pytorch/vision/issues/7545 points"
OXFORD, PRINCETON = "https://www.robots.ox.ac.uk/~vgg/data", "https://vision.princeton.edu/projects/2010/SUN"
BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"

DATASETS = {
    "oxford_pets": Dataset(
        _read_pets, ("oxford-iiit-pet/images", "oxford_pets/images"), "a photo of a {}, a type of pet.",
        (f"{OXFORD}/pets/data/images.tar.gz", f"{OXFORD}/pets/data/annotations.tar.gz"), "oxford-iiit-pet",
        TRAINVAL, "split_zhou_OxfordPets.json", _torchvision("OxfordIIITPet")),
    "caltech101": Dataset(
        _read_caltech, ("caltech101/101_ObjectCategories", "caltech-101/101_ObjectCategories"), "a photo of a {}.",
        ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",), "caltech101",
        CUT, "split_zhou_Caltech101.json", _torchvision("Caltech101")),
    "stanford_cars": Dataset(
        _read_cars, ("stanford_cars",), "a photo of a {}.",
        ("cars_train.tgz", "cars_test.tgz", "car_devkit.tgz", f"cars_test_annos_withlabels.mat ({CARS_PAGE})"),
        "stanford_cars", TRAINVAL, "split_zhou_StanfordCars.json"),
    "flowers102": Dataset(
        _read_flowers, ("flowers-102/jpg", "oxford_flowers/jpg"), "a photo of a {}, a type of flower.",
        tuple(f"{OXFORD}/flowers/102/{file}" for file in ("102flowers.tgz", "imagelabels.mat", "setid.mat")),
        "flowers-102", CUT, "split_zhou_OxfordFlowers.json", _torchvision("Flowers102", ("scipy.io",))),
    "food101": Dataset(
        _read_food, ("food-101/images",), "a photo of {}, a type of food.",
        ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",), "",
        CUT, "split_zhou_Food101.json", _torchvision("Food101")),
    "fgvc_aircraft": Dataset(
        _read_aircraft, ("fgvc-aircraft-2013b/data/images", "fgvc_aircraft/images"),
        "a photo of a {}, a type of aircraft.",
        (f"{OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",), "", fetch=_torchvision("FGVCAircraft")),
    "sun397": Dataset(
        _read_sun, ("sun397/SUN397", "SUN397"), "a photo of a {}.",
        (f"{PRINCETON}/SUN397.tar.gz",), "",
        "list 1 of Partitions.zip where it lies beside the pictures, else a seeded 50 of each class for testing, and "
        "40 and 10 of the rest for training and validation",
        "split_zhou_SUN397.json", _torchvision("SUN397")),
    "dtd": Dataset(
        _read_dtd, ("dtd/dtd/images", "dtd/images"), "{} texture.",
        (f"{OXFORD}/dtd/download/dtd-r1.0.1.tar.gz",), "dtd",
        CUT, "split_zhou_DescribableTextures.json", _torchvision("DTD")),
    "eurosat": Dataset(
        _read_eurosat, ("eurosat/2750",), "a centered satellite photo of {}.",
        ("https://madm.dfki.de/files/sentinel/EuroSAT.zip",), "eurosat",
        CUT, "split_zhou_EuroSAT.json", _torchvision("EuroSAT")),
    "ucf101": Dataset(
        _read_ucf, ("ucf101/UCF-101-midframes",), "a photo of a person doing {}.",
        ("UCF-101-midframes.zip (linked in github.com/KaiyangZhou/CoOp, DATASETS.md)",), "ucf101",
        TRAINVAL + " list 1", "split_zhou_UCF101.json"),
    "imagenet": Dataset(
        read_imagenet, ("imagenet/images", "imagenet"), "a photo of a {}.",
        ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar",
         "ILSVRC2012_devkit_t12.tar.gz (https://image-net.org/download, with an account)"),
        "imagenet", fetch=_unpack_imagenet, shifts=SHIFTS),
    "imagenetv2": Dataset(
        read_imagenet_shift, ("imagenetv2/imagenetv2-matched-frequency-format-val",), "a photo of a {}.",
        ("https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",),
        "imagenetv2"),
    "imagenet_sketch": Dataset(
        read_imagenet_shift, ("imagenet-sketch/images", "imagenet-sketch/sketch"), "a photo of a {}.",
        ("https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",),
        "imagenet-sketch"),
    "imagenet_a": Dataset(
        read_imagenet_shift, ("imagenet-adversarial/imagenet-a",), "a photo of a {}.",
        (f"{BERKELEY}/imagenet-a.tar",), "imagenet-adversarial"),
    "imagenet_r": Dataset(
        read_imagenet_shift, ("imagenet-rendition/imagenet-r",), "a photo of a {}.",
        (f"{BERKELEY}/imagenet-r.tar",), "imagenet-rendition"),
    "pathmnist": Dataset(
        _read_pathmnist, ("medmnist",), "a histopathology image of {}.",
        ("https://zenodo.org/records/10519652/files/pathmnist_64.npz",), "medmnist", fetch=_fetch_pathmnist),
}  # fmt: skip


def data_folder(root: str | Path | None = None) -> Path:
    """The folder of all data sets; by default ``$KDPL_DATA``, or else ``~/.cache/kdpl``."""
    return Path(root or os.environ.get("KDPL_DATA") or "~/.cache/kdpl").expanduser()


def read_dataset(name: str, root: str | Path | None = None) -> Files:
    """Paths, labels and class names of a data set; fetched through torchvision where it is missing and can be.

    Args:
        name: a key of ``DATASETS``.
        root: see ``data_folder``.

    Raises:
        FileNotFoundError: it is not there and could not be fetched; says what to put where.
    """
    data, root = DATASETS[name], data_folder(root)
    try:
        files, published = _look(data, root)
    except FileNotFoundError as missing:
        if data.fetch is None:
            raise _missing(name, root, missing) from missing
        files, published = _fetch(name, root, missing)
    if not published and data.split:
        message = f"{root / data.place / data.split_file} is not there, so {name} is split otherwise: {data.split}."
        warnings.warn(message, stacklevel=4)  # points at the call of load_world
    return files._replace(classnames=[name.replace("_", " ") for name in files.classnames])


def _fetch(name: str, root: Path, missing: FileNotFoundError) -> tuple[Files, bool]:
    try:
        DATASETS[name].fetch(root)
    except (OSError, RuntimeError) as error:  # no network, a broken archive, half an archive
        raise _missing(name, root, missing) from error
    try:
        return _look(DATASETS[name], root)
    except FileNotFoundError as error:
        raise _missing(name, root, error) from error


def is_there(name: str, root: str | Path | None = None) -> bool:
    """Whether the pictures of a data set lie in one of their places; nothing is read or fetched."""
    return any((data_folder(root) / place).is_dir() for place in DATASETS[name].pictures)


def _look(data: Dataset, root: Path) -> tuple[Files, bool]:
    """What is there, and whether its split is the published one."""
    places = [root / place for place in data.pictures if (root / place).is_dir()]
    for pictures in places:
        for folder in (pictures, *pictures.parents):
            if data.split_file and (folder / data.split_file).exists():
                return _published_split(folder / data.split_file, pictures), True
            if folder == root:
                break
    missing = FileNotFoundError()
    for pictures in places:
        try:
            return data.read(pictures), False
        except FileNotFoundError as error:
            missing = error
    raise missing


def _missing(name: str, root: Path, missing: FileNotFoundError) -> FileNotFoundError:
    """One sentence that says what is missing, what to fetch, and where to put it."""
    data = DATASETS[name]
    lacks = f"is incomplete ({missing.filename}: {missing.strerror})" if missing.filename else f"is not in {root}"
    how = "and could not be fetched: put" if data.fetch else "and cannot be fetched automatically: unpack"
    *first, last = data.archives
    archives = f"{', '.join(first)} and {last}" if first else last
    return FileNotFoundError(f"{name} {lacks} {how} {archives} in {root / data.place} and load it again.")


def _published_split(file: Path, pictures: Path) -> Files:
    """CoOp's split: lists of [path below the pictures' folder, label, class name] for train, val and test.

    The order of the lists is kept, since the published few-shot subsets follow from it (``coop_few_shot``).
    """
    split = json.loads(file.read_text(encoding="utf-8"))
    names = {label: name for part in split.values() for _, label, name in part}
    number = {label: i for i, label in enumerate(sorted(names))}
    pairs = {p: [(f"{pictures}/{path}", number[y]) for path, y, _ in split[p]] for p in ("train", "val", "test")}
    return Files([names[label] for label in sorted(names)], pairs["train"], pairs["val"], pairs["test"])
