"""Real data sets: where their files lie, how they are split, what their classes are called.

One entry in ``DATASETS`` and one function in ``lists`` that reads the official lists make the next one. The published
splits (``split_zhou_*.json``, CoOp) are used where they lie beside the pictures. Where they do not, the same shares are
cut anew, with a warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..support.disk import as_path, file_digest, file_lock
from .imagenet import SHIFTS, read_imagenet, read_imagenet_shift
from .lists import (
    read_aircraft,
    read_caltech,
    read_cars,
    read_dtd,
    read_eurosat,
    read_flowers,
    read_food,
    read_pets,
    read_published_split,
    read_sun,
    read_ucf,
)
from .photos import Files, photo_split, photo_world
from .world import LazyList, Split, World


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
    fetch: tuple[str, str] | None = None  # torchvision's class that fetches it, and the folder it is given
    shifts: tuple[str, ...] = ()  # other data sets with these classes
    targets: tuple[str, ...] = ()  # other data sets that prompts learned here are taken to
    size: tuple[int, ...] = ()  # classes, then pictures; of ImageNet without its training pictures and with them


CUT = "a seeded cut of each class into 50 % training, 20 % validation, 30 % test"
TRAINVAL = "the official trainval and test lists, a seeded 20 % of each class of trainval left for validation"
CARS_PAGE = "Stanford's page is gone, so look where github.com/pytorch/vision/issues/7545 points"
OXFORD, PRINCETON = "https://www.robots.ox.ac.uk/~vgg/data", "https://vision.princeton.edu/projects/2010/SUN"
# torchvision's: the certificate of the authors' own server has expired.
EUROSAT = (
    "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip"
)
BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"

# What the paper transfers ImageNet's prompts to.
TARGETS = ("caltech101", "oxford_pets", "stanford_cars", "flowers102", "food101", "fgvc_aircraft", "sun397", "dtd",
           "eurosat", "ucf101")  # fmt: skip

DATASETS = {
    "oxford_pets": Dataset(
        read_pets, ("oxford-iiit-pet/images", "oxford_pets/images"), "a photo of a {}, a type of pet.",
        (f"{OXFORD}/pets/data/images.tar.gz", f"{OXFORD}/pets/data/annotations.tar.gz"), "oxford-iiit-pet",
        TRAINVAL, "split_zhou_OxfordPets.json", ("OxfordIIITPet", ""), size=(37, 7349)),
    "caltech101": Dataset(
        read_caltech, ("caltech101/101_ObjectCategories", "caltech-101/101_ObjectCategories"), "a photo of a {}.",
        ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",), "caltech101",
        CUT, "split_zhou_Caltech101.json", ("Caltech101", ""), size=(100, 8242)),
    "stanford_cars": Dataset(
        read_cars, ("stanford_cars",), "a photo of a {}.",
        ("cars_train.tgz", "cars_test.tgz", "car_devkit.tgz", f"cars_test_annos_withlabels.mat ({CARS_PAGE})"),
        "stanford_cars", TRAINVAL, "split_zhou_StanfordCars.json", size=(196, 16_185)),
    "flowers102": Dataset(
        read_flowers, ("flowers-102/jpg", "oxford_flowers/jpg"), "a photo of a {}, a type of flower.",
        tuple(f"{OXFORD}/flowers/102/{file}" for file in ("102flowers.tgz", "imagelabels.mat", "setid.mat")),
        "flowers-102", CUT, "split_zhou_OxfordFlowers.json", ("Flowers102", ""),
        size=(102, 8189)),
    "food101": Dataset(
        read_food, ("food-101/images",), "a photo of {}, a type of food.",
        ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",), "",
        CUT, "split_zhou_Food101.json", ("Food101", ""), size=(101, 101_000)),
    "fgvc_aircraft": Dataset(
        read_aircraft, ("fgvc-aircraft-2013b/data/images", "fgvc_aircraft/images"),
        "a photo of a {}, a type of aircraft.",
        (f"{OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",), "", fetch=("FGVCAircraft", ""),
        size=(100, 10_000)),
    "sun397": Dataset(
        read_sun, ("sun397/SUN397", "SUN397"), "a photo of a {}.",
        (f"{PRINCETON}/SUN397.tar.gz",), "",
        "list 1 of Partitions.zip where it lies beside the pictures, else a seeded 50 of each class for testing, and "
        "40 and 10 of the rest for training and validation",
        "split_zhou_SUN397.json", ("SUN397", ""), size=(397, 39_700)),
    "dtd": Dataset(
        read_dtd, ("dtd/dtd/images", "dtd/images"), "{} texture.",
        (f"{OXFORD}/dtd/download/dtd-r1.0.1.tar.gz",), "dtd",
        CUT, "split_zhou_DescribableTextures.json", ("DTD", ""), size=(47, 5640)),
    "eurosat": Dataset(
        read_eurosat, ("eurosat/2750",), "a centered satellite photo of {}.",
        (EUROSAT,), "eurosat",
        CUT, "split_zhou_EuroSAT.json", ("EuroSAT", ""), size=(10, 27_000)),
    "ucf101": Dataset(
        read_ucf, ("ucf101/UCF-101-midframes",), "a photo of a person doing {}.",
        ("UCF-101-midframes.zip (linked in github.com/KaiyangZhou/CoOp, DATASETS.md)",), "ucf101",
        TRAINVAL + " list 1", "split_zhou_UCF101.json", size=(101, 13_320)),
    "imagenet": Dataset(
        read_imagenet, ("imagenet/images", "imagenet"), "a photo of a {}.",
        ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar",
         "ILSVRC2012_devkit_t12.tar.gz (https://image-net.org/download, with an account)"),
        "imagenet", shifts=SHIFTS, targets=TARGETS, size=(1000, 50_000, 1_331_167)),
    "imagenetv2": Dataset(
        read_imagenet_shift, ("imagenetv2/imagenetv2-matched-frequency-format-val",), "a photo of a {}.",
        ("https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",),
        "imagenetv2", size=(1000, 10_000)),
    "imagenet_sketch": Dataset(
        read_imagenet_shift, ("imagenet-sketch/images", "imagenet-sketch/sketch"), "a photo of a {}.",
        ("https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",),
        "imagenet-sketch", size=(1000, 50_889)),
    "imagenet_a": Dataset(
        read_imagenet_shift, ("imagenet-adversarial/imagenet-a",), "a photo of a {}.",
        (f"{BERKELEY}/imagenet-a.tar",), "imagenet-adversarial", size=(200, 7500)),
    "imagenet_r": Dataset(
        read_imagenet_shift, ("imagenet-rendition/imagenet-r",), "a photo of a {}.",
        (f"{BERKELEY}/imagenet-r.tar",), "imagenet-rendition", size=(200, 30_000)),
}  # fmt: skip

PATHMNIST = "https://zenodo.org/records/10519652/files/pathmnist_64.npz"
PATHMNIST_NAMES = (
    "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
    "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
)  # fmt: skip
WORLDS = (*DATASETS, "pathmnist")


def data_folder(root: str | Path | None = None) -> Path:
    """The folder of all data sets; by default ``$KDPL_DATA``, or else ``~/.cache/kdpl``."""
    return as_path(root or os.environ.get("KDPL_DATA") or "~/.cache/kdpl")


def real_world(name: str, root: str | Path | None = None) -> World:
    """A published data set as a world; fetched through torchvision where it is missing and can be.

    Raises:
        FileNotFoundError: it is not there and could not be fetched; says what to put where.
    """
    root = data_folder(root)
    if name == "pathmnist":
        return _pathmnist(root)
    data = DATASETS[name]
    files = read_dataset(name, root)
    world = photo_world(name, files, (data.template,))
    there = [shift for shift in data.shifts if find_pictures(shift, root)]
    if missing := set(data.shifts) - set(there):
        warnings.warn(f"{name} has {len(there)} of {len(data.shifts)} shifts: {', '.join(sorted(missing))} missing in "
                      f"{root}.", stacklevel=3)  # fmt: skip
    shifts = {shift: _shift(read_dataset(shift, root), files.classnames) for shift in there}
    return replace(world, shifts=shifts, targets=data.targets)


def _shift(files: Files, classnames: Sequence[str]) -> Split:
    """The test pictures of another set, labelled by these class names; of other classes, none."""
    label = {name: y for y, name in enumerate(classnames)}
    known = [label.get(name) for name in files.classnames]
    return photo_split([(path, known[y]) for path, y in files.test if known[y] is not None])


def find_pictures(name: str, root: Path) -> Path | None:
    """The folder of a data set's pictures, in torchvision's place or CoOp's; nothing is read or fetched."""
    return next((root / place for place in DATASETS[name].pictures if (root / place).is_dir()), None)


def read_dataset(name: str, root: Path) -> Files:
    """Paths, labels and class names of a data set."""
    data = DATASETS[name]
    pictures = find_pictures(name, root) or _fetch(name, root)
    folders = [folder for folder in (pictures, *pictures.parents) if folder.is_relative_to(root)]
    published = next((f / data.split_file for f in folders if data.split_file and (f / data.split_file).exists()), None)
    try:
        files = read_published_split(published, pictures) if published else data.read(pictures)
    except FileNotFoundError as error:
        raise _missing(name, root, f"is incomplete ({error.filename}: {error.strerror})") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:  # what a list that was cut short raises
        where = published or f"a list of {name} in {pictures.parent}"
        raise ValueError(f"{where} is not as published, or cut short ({error!r}): fetch it again.") from error
    _check_whole(name, root, files)
    if not published and data.split:
        where = root / data.place / data.split_file
        warnings.warn(f"{where} is not there, so {name} is split otherwise: {data.split}.", stacklevel=4)
    return files._replace(classnames=[title.replace("_", " ") for title in files.classnames])


def _fetch(name: str, root: Path) -> Path:
    """Let torchvision download and unpack a data set, one process at a time."""
    data = DATASETS[name]
    if data.fetch is None:
        raise _missing(name, root, f"is not in {root} and cannot be fetched automatically")
    import torchvision.datasets

    kind, folder = data.fetch
    try:
        with file_lock(root / f".fetching-{name}.lock", f"fetching {name}"):
            if not find_pictures(name, root):
                getattr(torchvision.datasets, kind)(root / folder, download=True)
    except (OSError, RuntimeError) as error:  # no network, a broken archive, a folder that cannot be written
        raise _missing(name, root, f"is not in {root} and could not be fetched ({error})") from error
    return find_pictures(name, root)


def _missing(name: str, root: Path, what: str) -> FileNotFoundError:
    """One sentence that says what is missing, what to fetch, and where to put it."""
    data = DATASETS[name]
    return FileNotFoundError(f"{name} {what}: put {' and '.join(data.archives)} in {root / data.place}, unpacked.")


def _check_whole(name: str, root: Path, files: Files) -> None:
    """Refuse a data set of which classes or listed pictures are missing; warn if it has fewer than published."""
    data = DATASETS[name]
    paths = [path for part in files[1:] for path, _ in part]
    if data.size and len(files.classnames) != data.size[0]:
        raise _missing(name, root, f"is incomplete: it has {len(files.classnames)} classes, and not {data.size[0]}")
    if not data.shifts and (gone := [path for path in paths if not os.path.exists(path)]):
        raise _missing(name, root, f"is incomplete: {len(gone)} of its pictures are missing ({gone[0]})")
    if data.size and len(paths) not in data.size[1:]:
        published = " or ".join(f"{number:,}" for number in data.size[1:])
        warnings.warn(f"{name} has {len(paths):,} pictures, and not {published} as published.", stacklevel=5)


def _pathmnist(root: Path) -> World:
    """The largest of MedMNIST's files that is there, as arrays in memory."""
    files = [root / "medmnist" / f"pathmnist{size}.npz" for size in ("_224", "_128", "_64", "")]
    path = next((file for file in files if file.exists()), None)
    if path is None:
        raise FileNotFoundError(f"pathmnist is not in {root}: put {PATHMNIST} in {root / 'medmnist'}.")
    packed = np.load(path)
    splits = {}
    for part in ("train", "val", "test"):
        arrays = packed[f"{part}_images"]
        images = LazyList(len(arrays), lambda i, arrays=arrays: Image.fromarray(arrays[i]).convert("RGB"))
        labels = torch.from_numpy(packed[f"{part}_labels"].reshape(-1).astype(np.int64))
        splits[part] = Split(images, labels, f"{file_digest(path)}/{part}")
    world = photo_world("pathmnist", Files(PATHMNIST_NAMES, [], [], []), ("a histopathology image of {}.",))
    return replace(world, **splits)
