"""Real data sets as worlds, split as published (``split_zhou_*.json`` of CoOp) where that file lies beside them."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..support.disk import file_digest, file_lock
from .dictionaries import data_folder
from .lists import aircraft_files, cut_anew, imagenet_files, published_split
from .photos import Files, photo_split, photo_world
from .world import LazyList, Split, World


@dataclass(frozen=True)
class Dataset:
    """What has to be known of one data set."""

    template: str  # the teacher's prompt in KDPL
    pictures: tuple[str, ...]  # where they may lie below the root: torchvision's place, then CoOp's
    size: tuple[int, ...]  # classes, then pictures; of ImageNet without its training pictures and with them
    split: str = ""  # CoOp's published split, a file beside the pictures
    kind: str = ""  # torchvision's class, which fetches it
    source: str = ""  # what to fetch by hand where there is none


MIRROR = "https://huggingface.co/zhengli97/prompt_learning_dataset"  # all below, with the published splits
HUB = "https://huggingface.co/datasets"
BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"
IMAGENET = "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar (https://image-net.org/download, with an account)"
PHOTO = "a photo of a {}."
DATASETS = {
    "oxford_pets": Dataset(
        "a photo of a {}, a type of pet.", ("oxford-iiit-pet/images", "oxford_pets/images"), (37, 7349),
        "split_zhou_OxfordPets.json", "OxfordIIITPet"),
    "caltech101": Dataset(
        PHOTO, ("caltech101/101_ObjectCategories", "caltech-101/101_ObjectCategories"), (100, 8242),
        "split_zhou_Caltech101.json", "Caltech101"),
    "stanford_cars": Dataset(
        PHOTO, ("stanford_cars",), (196, 16_185), "split_zhou_StanfordCars.json", source=MIRROR),
    "flowers102": Dataset(
        "a photo of a {}, a type of flower.", ("flowers-102/jpg", "oxford_flowers/jpg"), (102, 8189),
        "split_zhou_OxfordFlowers.json", "Flowers102"),
    "food101": Dataset(
        "a photo of {}, a type of food.", ("food-101/images",), (101, 101_000), "split_zhou_Food101.json", "Food101"),
    "fgvc_aircraft": Dataset(
        "a photo of a {}, a type of aircraft.", ("fgvc-aircraft-2013b/data/images", "fgvc_aircraft/images"),
        (100, 10_000), "", "FGVCAircraft"),
    "sun397": Dataset(
        PHOTO, ("sun397/SUN397", "SUN397"), (397, 39_700), "split_zhou_SUN397.json", source=MIRROR),
    "dtd": Dataset(
        "{} texture.", ("dtd/dtd/images", "dtd/images"), (47, 5640), "split_zhou_DescribableTextures.json", "DTD"),
    "eurosat": Dataset(
        "a centered satellite photo of {}.", ("eurosat/2750",), (10, 27_000), "split_zhou_EuroSAT.json", "EuroSAT"),
    "ucf101": Dataset(
        "a photo of a person doing {}.", ("ucf101/UCF-101-midframes",), (101, 13_320), "split_zhou_UCF101.json",
        source=MIRROR),
    "imagenet": Dataset(PHOTO, ("imagenet/images", "imagenet"), (1000, 50_000, 1_331_167), source=IMAGENET),
    "imagenetv2": Dataset(
        PHOTO, ("imagenetv2/imagenetv2-matched-frequency-format-val",), (1000, 10_000),
        source=f"{HUB}/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz"),
    "imagenet_sketch": Dataset(
        PHOTO, ("imagenet-sketch/images", "imagenet-sketch/sketch"), (1000, 50_889),
        source=f"{HUB}/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip"),
    "imagenet_a": Dataset(
        PHOTO, ("imagenet-adversarial/imagenet-a",), (200, 7500), source=f"{BERKELEY}/imagenet-a.tar"),
    "imagenet_r": Dataset(
        PHOTO, ("imagenet-rendition/imagenet-r",), (200, 30_000), source=f"{BERKELEY}/imagenet-r.tar"),
}  # fmt: skip
SHIFTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")  # of ImageNet
# To these the paper takes prompts that were learned on ImageNet.
TARGETS = ("caltech101", "oxford_pets", "stanford_cars", "flowers102", "food101", "fgvc_aircraft", "sun397", "dtd",
           "eurosat", "ucf101")  # fmt: skip
PATHMNIST = "https://zenodo.org/records/10519652/files/pathmnist_64.npz"
PATHMNIST_NAMES = (
    "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
    "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
)  # fmt: skip
WORLDS = (*DATASETS, "pathmnist")


def real_world(name: str, root: str | Path | None = None) -> World:
    """Load a published data set; let torchvision fetch it if it is missing.

    Raises:
        FileNotFoundError: It is missing and cannot be fetched; says what to put where.
    """
    root = data_folder(root)
    if name == "pathmnist":
        return _pathmnist(root)
    files = read_dataset(name, root)
    world = photo_world(name, files, (DATASETS[name].template,))
    if name != "imagenet":
        return world
    shifts = {}
    label = {title: y for y, title in enumerate(files.classnames)}
    for shift in SHIFTS:
        if not find_pictures(shift, root):
            warnings.warn(f"{shift}, one of imagenet's 4 shifts, is not in {root}.", stacklevel=3)
            continue
        other = read_dataset(shift, root)
        labels = [label.get(title) for title in other.classnames]
        shifts[shift] = photo_split([(path, labels[y]) for path, y in other.test if labels[y] is not None])
    return replace(world, shifts=shifts, targets=TARGETS)


def find_pictures(name: str, root: Path) -> Path | None:
    """Return the folder of a data set's pictures, None if it is missing."""
    return next((root / place for place in DATASETS[name].pictures if (root / place).is_dir()), None)


def read_dataset(name: str, root: Path) -> Files:
    """Return paths, labels and class names of a data set."""
    data = DATASETS[name]
    is_fetched_here = (root / f".fetching-{name}.lock").exists()  # then another process may be unpacking it
    pictures = (None if is_fetched_here else find_pictures(name, root)) or _fetch(name, root)
    folders = [folder for folder in (pictures, *pictures.parents) if folder.is_relative_to(root)]
    published = next((f / data.split for f in folders if data.split and (f / data.split).exists()), None)
    advice = f"{data.split} is not beside {pictures}: fetch it from {MIRROR}"
    if data.split and not published:
        if data.source:
            raise FileNotFoundError(f"{advice}.")
        warnings.warn(f"{advice}; until then {name} is split otherwise than published.", stacklevel=4)
    try:
        if published:
            files = published_split(published, pictures)
        elif data.split:
            files = cut_anew(pictures, name)
        else:
            files = aircraft_files(pictures) if name == "fgvc_aircraft" else imagenet_files(pictures)
    except Exception as error:  # a list that is cut or missing raises almost anything
        lists = published or f"a list of {name} in {pictures.parent}"
        raise ValueError(f"{lists} is missing, cut short or not as published ({error}): fetch it again.") from error
    _check_whole(name, pictures, files)
    return files._replace(classnames=[title.replace("_", " ") for title in files.classnames])


def _fetch(name: str, root: Path) -> Path:
    """Let torchvision download and unpack a data set, one process at a time."""
    data = DATASETS[name]
    if data.source:
        raise FileNotFoundError(f"{name} is not in {root}: put {data.source} in {root / data.pictures[0]}, unpacked.")
    import torchvision.datasets

    try:
        with file_lock(root / f".fetching-{name}.lock", f"fetching {name}"):
            if not find_pictures(name, root):
                getattr(torchvision.datasets, data.kind)(root, download=True)
            return find_pictures(name, root)
    except (OSError, RuntimeError) as error:  # no network, a broken archive, a folder that is not writable
        raise FileNotFoundError(
            f"{name} is not in {root} and could not be fetched ({error}): where there is a network, run "
            f"torchvision.datasets.{data.kind}({str(root)!r}, download=True), and copy {root / data.pictures[0]}."
        ) from error


def _check_whole(name: str, pictures: Path, files: Files) -> None:
    """Refuse a data set of which classes or listed pictures are missing; warn if it has fewer than published."""
    classes, *sizes = DATASETS[name].size
    paths = [path for part in files[1:] for path, _ in part]
    problem = ""
    if len(files.classnames) != classes:
        problem = f"{len(files.classnames)} classes of {classes}"
    elif name != "imagenet" and (gone := [path for path in paths if not os.path.exists(path)]):
        problem = f"all but {len(gone)} of its pictures, such as {gone[0]}"
    if problem:
        raise FileNotFoundError(f"{name} is incomplete: {pictures} has {problem}. Remove it and fetch it again.")
    if len(paths) < sizes[-1] and len(paths) != sizes[0]:
        warnings.warn(f"{name} has {len(paths):,} pictures, published are {sizes[-1]:,}.", stacklevel=5)


def _pathmnist(root: Path) -> World:
    """Read the largest of MedMNIST's files that is there."""
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
