"""Real data sets: where their files lie, how they are split, what their classes are called.

One entry in ``DATASETS`` and one function that reads the official lists make the next one.  Both layouts are known,
torchvision's and CoOp's, and the published splits (``split_zhou_*.json``, CoOp) are used where they lie beside the
pictures.  Where they do not, the same shares are cut anew: the same pictures for testing where those are official,
others where they are not, which is said in a warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..support.disk import DiskFull, as_path
from ..support.extras import optional
from .fetching import FAILED, check_writable, fetch_beside
from .imagenet import SHIFTS, read_imagenet, read_imagenet_shift
from .lists import read_published_split
from .official import (
    read_aircraft,
    read_caltech,
    read_cars,
    read_dtd,
    read_eurosat,
    read_flowers,
    read_food,
    read_pathmnist,
    read_pets,
    read_sun,
    read_ucf,
)
from .photos import Files

MOST_LOOKED_FOR = 200_000  # pictures of a list: ImageNet's are found in their folders, and looking takes minutes


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
    targets: tuple[str, ...] = ()  # other data sets that prompts learned here are taken to
    size: tuple[int, ...] = ()  # classes, then pictures; of ImageNet without its training pictures and with them


# What fetches: a folder that is like the root of all data sets → fetched and unpacked there.


def _torchvision(name: str, needs: tuple[str, ...] = (), folder: str = "", **arguments) -> Callable[[Path], None]:
    def fetch(root: Path) -> None:
        import torchvision.datasets

        for module in needs:
            optional(module, "data")
        getattr(torchvision.datasets, name)(root / folder, download=True, **arguments)

    return fetch


def _fetch_pathmnist(root: Path) -> None:
    medmnist = optional("medmnist", "data")
    (root / "medmnist").mkdir(parents=True, exist_ok=True)
    medmnist.PathMNIST("train", download=True, root=root / "medmnist", size=64)


def _unpack_imagenet(root: Path) -> None:
    """torchvision unpacks ImageNet's archives into folders by WordNet id; it may not fetch them."""
    from torchvision.datasets import ImageNet

    home = root / "imagenet"
    unpacked = [part for part in ("val", "train") if (root.parent / "imagenet" / part).is_dir()]
    there = [p for p in ("val", "train") if (home / f"ILSVRC2012_img_{p}.tar").exists() and p not in unpacked]
    if there:
        optional("scipy.io", "data")
    for part in there or ["val"]:  # which raises
        ImageNet(root / "imagenet", part)


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
        TRAINVAL, "split_zhou_OxfordPets.json", _torchvision("OxfordIIITPet"), size=(37, 7349)),
    "caltech101": Dataset(
        read_caltech, ("caltech101/101_ObjectCategories", "caltech-101/101_ObjectCategories"), "a photo of a {}.",
        ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",), "caltech101",
        CUT, "split_zhou_Caltech101.json", _torchvision("Caltech101"), size=(100, 8242)),
    "stanford_cars": Dataset(
        read_cars, ("stanford_cars",), "a photo of a {}.",
        ("cars_train.tgz", "cars_test.tgz", "car_devkit.tgz", f"cars_test_annos_withlabels.mat ({CARS_PAGE})"),
        "stanford_cars", TRAINVAL, "split_zhou_StanfordCars.json", size=(196, 16_185)),
    "flowers102": Dataset(
        read_flowers, ("flowers-102/jpg", "oxford_flowers/jpg"), "a photo of a {}, a type of flower.",
        tuple(f"{OXFORD}/flowers/102/{file}" for file in ("102flowers.tgz", "imagelabels.mat", "setid.mat")),
        "flowers-102", CUT, "split_zhou_OxfordFlowers.json", _torchvision("Flowers102", ("scipy.io",)),
        size=(102, 8189)),
    "food101": Dataset(
        read_food, ("food-101/images",), "a photo of {}, a type of food.",
        ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",), "",
        CUT, "split_zhou_Food101.json", _torchvision("Food101"), size=(101, 101_000)),
    "fgvc_aircraft": Dataset(
        read_aircraft, ("fgvc-aircraft-2013b/data/images", "fgvc_aircraft/images"),
        "a photo of a {}, a type of aircraft.",
        (f"{OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",), "", fetch=_torchvision("FGVCAircraft"),
        size=(100, 10_000)),
    "sun397": Dataset(
        read_sun, ("sun397/SUN397", "SUN397"), "a photo of a {}.",
        (f"{PRINCETON}/SUN397.tar.gz",), "",
        "list 1 of Partitions.zip where it lies beside the pictures, else a seeded 50 of each class for testing, and "
        "40 and 10 of the rest for training and validation",
        "split_zhou_SUN397.json", _torchvision("SUN397"), size=(397, 39_700)),
    "dtd": Dataset(
        read_dtd, ("dtd/dtd/images", "dtd/images"), "{} texture.",
        (f"{OXFORD}/dtd/download/dtd-r1.0.1.tar.gz",), "dtd",
        CUT, "split_zhou_DescribableTextures.json", _torchvision("DTD"), size=(47, 5640)),
    "eurosat": Dataset(
        read_eurosat, ("eurosat/2750",), "a centered satellite photo of {}.",
        (EUROSAT,), "eurosat",
        CUT, "split_zhou_EuroSAT.json", _torchvision("EuroSAT"), size=(10, 27_000)),
    "ucf101": Dataset(
        read_ucf, ("ucf101/UCF-101-midframes",), "a photo of a person doing {}.",
        ("UCF-101-midframes.zip (linked in github.com/KaiyangZhou/CoOp, DATASETS.md)",), "ucf101",
        TRAINVAL + " list 1", "split_zhou_UCF101.json", size=(101, 13_320)),
    "imagenet": Dataset(
        read_imagenet, ("imagenet/images", "imagenet"), "a photo of a {}.",
        ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar",
         "ILSVRC2012_devkit_t12.tar.gz (https://image-net.org/download, with an account)"),
        "imagenet", fetch=_unpack_imagenet, shifts=SHIFTS, targets=TARGETS, size=(1000, 50_000, 1_331_167)),
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
    "pathmnist": Dataset(
        read_pathmnist, ("medmnist",), "a histopathology image of {}.",
        ("https://zenodo.org/records/10519652/files/pathmnist_64.npz",), "medmnist", fetch=_fetch_pathmnist,
        size=(9, 107_180)),
}  # fmt: skip


def data_folder(root: str | Path | None = None) -> Path:
    """The folder of all data sets; by default ``$KDPL_DATA``, or else ``~/.cache/kdpl``."""
    return as_path(os.environ.get("KDPL_DATA") or "~/.cache/kdpl" if root is None else root)


def read_dataset(name: str, root: str | Path | None = None) -> Files:
    """Paths, labels and class names of a data set; fetched through torchvision where it is missing and can be.

    Args:
        name: a key of ``DATASETS``.
        root: see ``data_folder``.

    Raises:
        FileNotFoundError: it is not there and could not be fetched; says what to put where.
        DiskFull: there is no room for it.
    """
    data, root = DATASETS[name], data_folder(root)
    try:
        files, published = _look(data, root)
    except FileNotFoundError as missing:
        if data.fetch is None:
            raise _missing(name, root, missing) from missing
        files, published = _fetch(name, root, missing)
    _check_whole(name, root, files)
    if not published and data.split:
        message = f"{root / data.place / data.split_file} is not there, so {name} is split otherwise: {data.split}."
        warnings.warn(message, stacklevel=4)  # points at the call of load_world
    return files._replace(classnames=[name.replace("_", " ") for name in files.classnames])


def _fetch(name: str, root: Path, missing: FileNotFoundError) -> tuple[Files, bool]:
    data = DATASETS[name]
    check_writable(root)
    names = [archive.split(" ")[0].rsplit("/", 1)[-1] for archive in data.archives]

    def can_be_read() -> bool:
        try:
            return bool(_look(data, root))
        except FileNotFoundError:
            return False

    try:
        fetch_beside(name, root, data.place, names, data.fetch, can_be_read)
    except DiskFull:
        raise
    except FAILED as error:
        raise _missing(name, root, missing) from error
    try:
        return _look(data, root)
    except FileNotFoundError as error:
        raise _missing(name, root, error) from error


def _check_whole(name: str, root: Path, files: Files) -> None:
    """Refuse a data set of which classes or listed pictures are missing; say if it has fewer pictures than published.

    Raises:
        FileNotFoundError: it was unpacked in part, or is another data set.
    """
    data = DATASETS[name]
    every = [photo for part in (files.train, files.val, files.test) for photo, _ in part]
    again = f"unpack {_and(data.archives)} again in {root / data.place}, in place of what is there"
    if data.size and len(files.classnames) != data.size[0]:
        raise FileNotFoundError(
            f"{name} is incomplete or another data set: it has {len(files.classnames)} classes, and not "
            f"{data.size[0]}: {again}."
        )
    listed = [photo for photo in every[:MOST_LOOKED_FOR] if isinstance(photo, str)]
    gone = [photo for photo in listed if not os.path.exists(photo)]
    if gone:
        raise FileNotFoundError(f"{name} is incomplete: {len(gone)} of its pictures are missing ({gone[0]}): {again}.")
    if data.size and len(every) not in data.size[1:]:
        published = " or ".join(f"{number:,}" for number in data.size[1:])
        warnings.warn(f"{name} has {len(every):,} pictures, and not {published} as published: {again}.", stacklevel=4)


def is_there(name: str, root: str | Path | None = None) -> bool:
    """Whether the pictures of a data set lie in one of their places; nothing is read or fetched."""
    return any((data_folder(root) / place).is_dir() for place in DATASETS[name].pictures)


def _look(data: Dataset, root: Path) -> tuple[Files, bool]:
    """What is there, and whether its split is the published one."""
    places = [root / place for place in data.pictures if (root / place).is_dir()]
    for pictures in places:
        for folder in (pictures, *pictures.parents):
            if data.split_file and (folder / data.split_file).exists():
                return read_published_split(folder / data.split_file, pictures), True
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
    place = root / data.place
    return FileNotFoundError(f"{name} {lacks} {how} {_and(data.archives)} in {place} and load it again.")


def _and(archives: Sequence[str]) -> str:
    *first, last = archives
    return f"{', '.join(first)} and {last}" if first else last
