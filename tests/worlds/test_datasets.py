"""Every data set on tiny folders in the official layout; a picture's colour says which one it is."""

import json
import random
import urllib.request
import warnings
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from kdpl_utils.worlds import datasets
from kdpl_utils.worlds.lists import imagenet_names
from kdpl_utils.worlds.load import load_world

EUROSAT = {
    "AnnualCrop": "Annual Crop Land", "Forest": "Forest", "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road", "Industrial": "Industrial Buildings", "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land", "Residential": "Residential Buildings", "River": "River",
    "SeaLake": "Sea or Lake",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def of_size(monkeypatch):
    """Let a data set of these numbers of classes and pictures be whole."""

    def change(name, *size):
        monkeypatch.setitem(datasets.DATASETS, name, replace(datasets.DATASETS[name], size=size))

    return change


def picture(path, label, number):
    """Lossless whatever its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (label, number, 0)).save(path, "PNG")


def marks(split):
    """Return [(label, number)] as the colours of the pictures say."""
    return [image.getpixel((0, 0))[:2] for image in split.images]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# Writers: the root and which layout → files as their publishers lay them out.


def write_pets(root, coop):
    home = root / ("oxford_pets" if coop else "oxford-iiit-pet")
    for label, stem in enumerate(["Abyssinian", "american_pit_bull_terrier", "Bengal"]):
        for number in range(10):
            picture(home / "images" / f"{stem}_{number + 1}.jpg", label, number)
    write(home / "images" / "Abyssinian_100.mat", "three of the real archive's files are no pictures")


def write_classes(home, folders):
    for label, folder in enumerate(folders):
        for number in range(10):
            picture(home / folder / f"image_{number + 1:04d}.jpg", label, number)
    write(home / folders[0] / "._image_0001.jpg", "what macOS leaves behind")


def write_caltech(root, coop):
    home = root / ("caltech-101" if coop else "caltech101") / "101_ObjectCategories"
    write_classes(home, ["Faces", "Leopards", "Motorbikes", "accordion", "airplanes", "sea_horse"])
    for ignored in ("BACKGROUND_Google", "Faces_easy"):
        picture(home / ignored / "image_0001.jpg", 200, 200)


def write_cars(root, coop):
    write_classes(root / "stanford_cars" / "cars_train", ["a", "b"])


def write_flowers(root, coop):
    home = root / ("oxford_flowers" if coop else "flowers-102")
    numbers = np.arange(1, 1021)
    for n in numbers:
        picture(home / "jpg" / f"image_{n:05d}.jpg", n % 102, n // 102)
    savemat(home / "imagelabels.mat", {"labels": (numbers % 102 + 1).astype(np.uint8)})


def write_food(root, coop):
    write_classes(root / "food-101" / "images", ["apple_pie", "baby_back_ribs", "waffles"])


def write_aircraft(root, coop):
    home = root / ("fgvc_aircraft" if coop else "fgvc-aircraft-2013b/data")
    names = ["707-320", "F/A-18"]
    write(home / "variants.txt", "\n".join(names) + "\n")
    for part, numbers in {"train": range(6), "val": range(6, 8), "test": range(8, 10)}.items():
        lines = []
        for label, name in enumerate(names):
            for number in numbers:
                picture(home / "images" / f"{100 * label + number:07d}.jpg", label, number)
                lines.append(f"{100 * label + number:07d} {name}")
        write(home / f"images_variant_{part}.txt", "\n".join(lines) + "\n")


def write_sun(root, coop):
    write_classes(root / ("sun397/SUN397" if coop else "SUN397"), ["a/abbey", "a/apartment_building/outdoor"])


def write_dtd(root, coop):
    write_classes(root / ("dtd" if coop else "dtd/dtd") / "images", ["banded", "polka-dotted", "zigzagged"])


def write_eurosat(root, coop=False):
    write_classes(root / "eurosat" / "2750", sorted(EUROSAT))


def write_ucf(root, coop):
    write_classes(root / "ucf101" / "UCF-101-midframes", ["Apply_Eye_Makeup", "Hammering", "Yo_Yo"])


# name → writer; first class names; pictures a class in (train, val, test), as cut without the published split
CUT = (5, 2, 3)
WORLDS = {
    "oxford_pets": (write_pets, ["abyssinian", "american pit bull terrier", "bengal"], CUT),
    "caltech101": (write_caltech, ["face", "leopard", "motorbike", "accordion", "airplane", "sea horse"], CUT),
    "stanford_cars": (write_cars, [], ()),
    "flowers102": (write_flowers, ["pink primrose", "hard-leaved pocket orchid"], CUT),
    "food101": (write_food, ["apple pie", "baby back ribs", "waffles"], CUT),
    "fgvc_aircraft": (write_aircraft, ["707-320", "F/A-18"], (6, 2, 2)),
    "sun397": (write_sun, [], ()),
    "dtd": (write_dtd, ["banded", "polka-dotted", "zigzagged"], CUT),
    "eurosat": (write_eurosat, list(EUROSAT.values()), CUT),
    "ucf101": (write_ucf, [], ()),  # these three come with their published split
}
N_CLASSES = {name: 102 if name == "flowers102" else len(names) for name, (_, names, _) in WORLDS.items()}
PUBLISHED = [name for name in WORLDS if datasets.DATASETS[name].split]


def load(name, root):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return load_world(name, root=root), [str(warning.message) for warning in caught]


@pytest.mark.parametrize("name", [name for name in WORLDS if WORLDS[name][2]])
def test_a_data_set_in_torchvisions_layout_has_its_names_splits_and_template(tmp_path, name, of_size):
    writer, names, sizes = WORLDS[name]
    writer(tmp_path, coop=False)
    of_size(name, N_CLASSES[name], sum(sizes) * N_CLASSES[name])
    world, warned = load(name, tmp_path)
    assert list(world.classnames[: len(names)]) == names and world.templates == (datasets.DATASETS[name].template,)
    every = []
    for split, size in zip((world.train, world.val, world.test), sizes):
        seen = marks(split)
        assert split.labels.bincount().tolist() == [size] * N_CLASSES[name] and len(split.key) > 8
        if name != "flowers102":
            assert split.labels.tolist() == [label for label, _ in seen]
        every += seen
    assert len(every) == len(set(every)), "a picture is in two splits"
    assert len(world.dictionary) > 20_000 and world.shifts == {}
    assert [datasets.MIRROR in text for text in warned] == [True] * (name in PUBLISHED)


@pytest.mark.parametrize("coop", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_split_decides(tmp_path, name, coop, of_size):
    """Paths are below the folder of pictures, class 1 is called otherwise, and the order of the lists is kept."""
    WORLDS[name][0](tmp_path, coop)
    of_size(name, 2, 6)
    home = datasets.find_pictures(name, tmp_path)
    at = {Image.open(p).getpixel((0, 0))[:2]: p.relative_to(home).as_posix() for p in home.rglob("[!.]*.jpg")}
    called = {0: "class_0", 1: "quite_another"}
    lists = {"train": [(1, 3), (0, 2), (1, 1)], "val": [(0, 7)], "test": [(1, 2), (0, 9)]}
    split = {part: [[at[mark], mark[0], called[mark[0]]] for mark in chosen] for part, chosen in lists.items()}
    beside = home if home.parent == tmp_path else home.parent
    (beside / datasets.DATASETS[name].split).write_text(json.dumps(split), encoding="utf-8-sig")
    world, warned = load(name, tmp_path)
    assert warned == [] and world.classnames == ("class 0", "quite another")
    for part, chosen in lists.items():
        assert marks(getattr(world, part)) == chosen
        assert getattr(world, part).labels.tolist() == [label for label, _ in chosen]


def test_aircraft_is_split_as_published_in_coops_layout(tmp_path, of_size):
    write_aircraft(tmp_path, coop=True)
    of_size("fgvc_aircraft", 2, 20)
    world, warned = load("fgvc_aircraft", tmp_path)
    assert warned == [] and marks(world.val) == [(0, 6), (0, 7), (1, 6), (1, 7)]


def test_a_data_set_without_any_list_is_not_loaded(tmp_path):
    write_ucf(tmp_path, coop=True)
    for name in ("stanford_cars", "sun397", "ucf101"):
        WORLDS[name][0](tmp_path, coop=True)
        with pytest.raises(FileNotFoundError, match=f"split_zhou_.*is not beside .*: fetch it from {datasets.MIRROR}"):
            load_world(name, root=tmp_path)


def test_a_cut_depends_neither_on_the_place_nor_on_the_order_of_a_directory(tmp_path, of_size, monkeypatch):
    of_size("eurosat", 10, 100)
    for home in ("here", "there"):
        write_eurosat(tmp_path / home)
    here = marks(load("eurosat", tmp_path / "here")[0].train)
    plain = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(random.Random(4).sample(all := [*plain(self)], len(all))))
    assert marks(load("eurosat", tmp_path / "there")[0].train) == here
    numbers = np.array([number for _, number in here]).reshape(10, 5)
    assert len({tuple(row) for row in numbers.tolist()}) > 5, "the same five of every class"


# What is missing, damaged or incomplete


@pytest.mark.parametrize("name", datasets.WORLDS)
def test_without_a_network_it_says_what_to_put_where(tmp_path, name):
    with pytest.raises(FileNotFoundError) as error:
        load_world(name, root=tmp_path)
    message = str(error.value)
    data = datasets.DATASETS.get(name)
    place = tmp_path / (data.pictures[0] if data else "medmnist")
    fetched = datasets.PATHMNIST if data is None else data.source or f"torchvision.datasets.{data.kind}("
    assert f"{name} is not in {tmp_path}" in message and str(place) in message and fetched in message


def test_a_fetched_data_set_is_loaded(tmp_path, of_size, monkeypatch):
    of_size("eurosat", 10, 100)
    monkeypatch.setattr(torchvision.datasets, "EuroSAT", lambda root, download: write_eurosat(root))
    assert len(load("eurosat", tmp_path)[0].test) == 30


def test_a_data_set_of_which_classes_or_pictures_are_missing_is_refused(tmp_path, of_size):
    of_size("eurosat", 10, 100)
    write_classes(tmp_path / "eurosat" / "2750", ["Forest", "Highway", "River"])
    with pytest.raises(FileNotFoundError, match=f"eurosat is incomplete: {tmp_path}.* has 3 classes of 10"):
        load_world("eurosat", root=tmp_path)
    write_eurosat(tmp_path)
    next((tmp_path / "eurosat" / "2750" / "River").iterdir()).unlink()
    assert any("eurosat has 99 pictures, published are 100" in text for text in load("eurosat", tmp_path)[1])
    of_size("fgvc_aircraft", 2, 20)
    write_aircraft(tmp_path, coop=True)
    (tmp_path / "fgvc_aircraft" / "images" / "0000001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="all but 1 of its pictures, such as .*0000001.jpg"):
        load_world("fgvc_aircraft", root=tmp_path)


GOOD = {"train": [["River/image_0001.jpg", 1, "River"]], "val": [], "test": [["Forest/image_0002.jpg", 0, "Forest"]]}
BROKEN = {
    "a web page": "<!doctype html><title>404</title>",
    "cut": json.dumps(GOOD)[:-40],
    "a list": "[]",
    "no training": json.dumps({"test": GOOD["test"]}),
    "empty lists": json.dumps({"train": [], "val": [], "test": []}),
    "rows of two": json.dumps(GOOD | {"train": [["a.jpg", 1]]}),
    "a way out": json.dumps(GOOD | {"val": [["../../secret.jpg", 1, "River"]]}),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_split_is_named(kind, tmp_path):
    write_eurosat(tmp_path)
    (tmp_path / "eurosat" / "split_zhou_EuroSAT.json").write_text(BROKEN[kind])
    with pytest.raises(ValueError, match="split_zhou_EuroSAT.json is missing, cut short or not as published.*again"):
        load_world("eurosat", root=tmp_path)


@pytest.mark.parametrize("name, file", [("flowers102", "imagelabels.mat"), ("fgvc_aircraft", "images_variant_val.txt")])
def test_a_broken_list_is_named(name, file, tmp_path):
    WORLDS[name][0](tmp_path, coop=False)
    (path,) = tmp_path.rglob(file)
    path.write_text("<!doctype html>\n")
    with pytest.raises(ValueError, match=f"a list of {name} in {path.parent}.*fetch it again"):
        load(name, tmp_path)


# ImageNet and its shifts

WNIDS = list(imagenet_names())
CHOSEN = [WNIDS[0], WNIDS[657], WNIDS[744]]  # open_clip calls the last two "missile"


def write_imagenet(root, coop):
    home = root / "imagenet" / ("images" if coop else "")
    for label, wnid in enumerate(CHOSEN):
        for number in range(2):
            picture(home / "train" / wnid / f"{wnid}_{number}.JPEG", label, number)
            picture(home / "val" / wnid / f"ILSVRC2012_val_{label}{number}.JPEG", label, 50 + number)


@pytest.mark.parametrize("coop", [False, True])
def test_imagenet_is_tested_on_its_validation_pictures(tmp_path, coop, of_size):
    write_imagenet(tmp_path, coop)
    of_size("imagenet", 3, 6, 12)
    world, warned = load("imagenet", tmp_path)
    assert world.classnames == ("tench", "missile", "projectile") and len(set(imagenet_names().values())) == 1000
    assert marks(world.train) == [(y, n) for y in range(3) for n in range(2)] and len(world.val) == 0
    assert marks(world.test) == [(y, 50 + n) for y in range(3) for n in range(2)]
    assert set(world.targets) == set(WORLDS) and len(warned) == 4


def test_the_shifts_of_imagenet_are_labelled_by_its_names(tmp_path, of_size):
    write_imagenet(tmp_path, coop=True)
    of_size("imagenet", 3, 6, 12)
    for name, data in ((name, datasets.DATASETS[name]) for name in datasets.SHIFTS):
        for label in (0, 744):  # of the third class ImageNet has, but of the second not
            folder = str(label) if name == "imagenetv2" else WNIDS[label]
            picture(tmp_path / data.pictures[0] / folder / "a.jpeg", label % 256, 9)
        of_size(name, 2, 2)
    world, warned = load("imagenet", tmp_path)
    assert warned == [] and list(world.shifts) == list(datasets.SHIFTS)
    for split in world.shifts.values():
        assert split.labels.tolist() == [0, 2] and marks(split) == [(0, 9), (744 % 256, 9)]
    assert load("imagenet_r", tmp_path)[0].classnames == ("tench", "projectile")


def test_pathmnist_is_read_from_its_largest_file(tmp_path):
    for size, pixels in (("", 28), ("_64", 64)):
        arrays = {}
        for first, part in ((0, "train"), (10, "val"), (20, "test")):
            images = np.zeros((3, pixels, pixels, 3), dtype=np.uint8)
            images[..., 0] = np.array([2, 0, 8])[:, None, None]
            images[..., 1] = first + np.arange(3)[:, None, None]
            arrays |= {f"{part}_images": images, f"{part}_labels": np.array([[2], [0], [8]], dtype=np.uint8)}
        (tmp_path / "medmnist").mkdir(exist_ok=True)
        np.savez_compressed(tmp_path / "medmnist" / f"pathmnist{size}.npz", **arrays)
    world, warned = load("pathmnist", tmp_path)
    assert warned == [] and len(world.classnames) == 9 and world.train.images[0].size == (64, 64)
    for first, split in ((0, world.train), (10, world.val), (20, world.test)):
        assert marks(split) == [(2, first), (0, first + 1), (8, first + 2)] and split.labels.tolist() == [2, 0, 8]
    assert len({world.train.key, world.val.key, world.test.key}) == 3
