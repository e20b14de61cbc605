"""Every data set on tiny folders and archives in the official layout; a picture's colour says which one it is."""

import inspect
import io
import json
import random
import shutil
import sys
import tarfile
import tempfile
import time
import urllib.request
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from PIL import Image

from kdpl_utils.shots import few_shot
from kdpl_utils.support.disk import DiskFull
from kdpl_utils.worlds import datasets, imagenet, official
from kdpl_utils.worlds.load import load_world, world_names
from kdpl_utils.worlds.world import of_classes

PER_CLASS = 10


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """These folders are smaller than the published sets, whose sizes are known."""
    for name, data in datasets.DATASETS.items():
        monkeypatch.setitem(datasets.DATASETS, name, replace(data, size=()))


def picture(path, label, number, mode="RGB"):
    """Lossless whatever its name says; a few of the real ones are grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = 10 * label + number if mode == "L" else (label, number, 0)
    Image.new(mode, (6, 5), colour).save(path, "PNG")


def marks(split):
    """[(label, number)] as the colours of the pictures say."""
    assert all(image.mode == "RGB" for image in split.images)
    return [image.getpixel((0, 0))[:2] for image in split.images]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def savemat(path, **arrays):
    scipy_io = pytest.importorskip("scipy.io")
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy_io.savemat(path, arrays)


# Writers: root and layout ("torchvision" or "coop") → files as their publishers lay them out.


def write_pets(root, layout):
    home, lists = root / {"torchvision": "oxford-iiit-pet", "coop": "oxford_pets"}[layout], {"trainval": [], "test": []}
    for label, stem in enumerate(["Abyssinian", "american_pit_bull_terrier", "Bengal"]):
        for number in range(2 * PER_CLASS):
            picture(home / "images" / f"{stem}_{number + 1}.jpg", label, number)
            lists["trainval" if number < PER_CLASS else "test"].append(f"{stem}_{number + 1} {label + 1} 1 1")
    write(home / "images" / "Abyssinian_100.mat", "three of the real archive's files are no pictures")
    for name, lines in lists.items():
        write(home / "annotations" / f"{name}.txt", "\n".join(lines) + "\n")


def write_classes(home, folders, hidden=True):
    for label, folder in enumerate(folders):
        for number in range(PER_CLASS):
            picture(home / folder / f"image_{number + 1:04d}.jpg", label, number)
        if hidden:
            write(home / folder / "._image_0001.jpg", "what macOS leaves behind")


def write_caltech(root, layout):
    home = root / {"torchvision": "caltech101", "coop": "caltech-101"}[layout] / "101_ObjectCategories"
    write_classes(home, ["Faces", "Leopards", "Motorbikes", "accordion", "airplanes", "sea_horse"])
    for ignored in ("BACKGROUND_Google", "Faces_easy"):
        picture(home / ignored / "image_0001.jpg", 200, 200)


def write_cars(root, layout):
    home, titles = root / "stanford_cars", ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"]
    fields = [("bbox_x1", object), ("class", object), ("fname", object)]
    for part, file in (("cars_train", "devkit/cars_train_annos.mat"), ("cars_test", "cars_test_annos_withlabels.mat")):
        rows = []
        for n in range(2 * PER_CLASS):
            label, number = n % 2, n // 2 + (0 if part == "cars_train" else PER_CLASS)
            picture(home / part / f"{n + 1:05d}.jpg", label, number)
            rows.append((1, label + 1, f"{n + 1:05d}.jpg"))
        savemat(home / file, annotations=np.array(rows, dtype=fields))
    savemat(home / "devkit" / "cars_meta.mat", class_names=np.array(titles, dtype=object))


def write_flowers(root, layout):
    home = root / {"torchvision": "flowers-102", "coop": "oxford_flowers"}[layout]
    for n in range(3 * PER_CLASS):
        picture(home / "jpg" / f"image_{n + 1:05d}.jpg", n % 3, n // 3)
    savemat(home / "imagelabels.mat", labels=np.array([n % 3 + 1 for n in range(3 * PER_CLASS)], dtype=np.uint8))
    if layout == "coop":
        write(home / "cat_to_name.json", json.dumps({"2": "hard-leaved pocket orchid", "1": "primrose", "3": "bells"}))
    else:
        numbers = np.arange(1, 3 * PER_CLASS + 1)
        savemat(home / "setid.mat", trnid=numbers[:10], valid=numbers[10:20], tstid=numbers[20:])


def write_food(root, layout):
    write_classes(root / "food-101" / "images", ["apple_pie", "baby_back_ribs", "waffles"])
    for part in ("train", "test"):
        write(root / "food-101" / "meta" / f"{part}.json", "{}")


def write_aircraft(root, layout):
    home, names = (
        root / {"torchvision": "fgvc-aircraft-2013b/data", "coop": "fgvc_aircraft"}[layout],
        ["707-320", "F/A-18"],
    )
    lists = {"train": range(6), "val": range(6, 8), "test": range(8, 10)}
    write(home / "variants.txt", "\n".join(names) + "\n")
    for part, numbers in lists.items():
        lines = []
        for label, name in enumerate(names):
            for number in numbers:
                picture(home / "images" / f"{100 * label + number:07d}.jpg", label, number)
                lines.append(f"{100 * label + number:07d} {name}")
        write(home / f"images_variant_{part}.txt", "\n".join(lines) + "\n")
    write(home / "images_variant_trainval.txt", "")  # torchvision looks at it


SUN_CLASSES = ["/a/abbey", "/a/apartment_building/outdoor", "/y/youth_hostel"]


def write_sun(root, layout):
    home = root / {"torchvision": "SUN397", "coop": "sun397/SUN397"}[layout]
    for label, path in enumerate(SUN_CLASSES):
        for number in range(2 * PER_CLASS if layout == "coop" else 120):
            picture(Path(f"{home}{path}") / f"sun_{number:04d}.jpg", label, number)
    lists = root / "sun397" if layout == "coop" else home  # Partitions.zip unpacked beside the pictures
    write(lists / "ClassName.txt", "\n".join(SUN_CLASSES) + "\n")
    if layout == "coop":
        for part, numbers in (("Training", range(10)), ("Testing", range(10, 20))):
            lines = [f"{path}/sun_{number:04d}.jpg" for path in SUN_CLASSES for number in numbers]
            write(lists / f"{part}_01.txt", "\n".join(lines) + "\n")


def write_dtd(root, layout):
    home = root / {"torchvision": "dtd/dtd", "coop": "dtd"}[layout]
    write_classes(home / "images", ["banded", "polka-dotted", "zigzagged"])
    for part in ("train", "val", "test"):
        write(home / "labels" / f"{part}1.txt", "banded/image_0001.jpg\n")


def write_eurosat(root, layout):
    write_classes(root / "eurosat" / "2750", sorted(official.EUROSAT_NAMES), hidden=False)


def write_ucf(root, layout):
    for label, name in enumerate(["Apply_Eye_Makeup", "Hammering", "Hammer_Throw", "Yo_Yo"]):
        for number in range(17):  # groups 1 to 17, of which 1 to 7 are for testing
            clip = f"v_{name.replace('_', '')}_g{number + 1:02d}_c01.jpg"
            picture(root / "ucf101" / "UCF-101-midframes" / name / clip, label, number)


EUROSAT = ["Annual Crop Land", "Forest", "Herbaceous Vegetation Land", "Highway or Road", "Industrial Buildings",
           "Pasture Land", "Permanent Crop Land", "Residential Buildings", "River", "Sea or Lake"]  # fmt: skip
# name → writer, layouts, class names, pictures a class in (train, val, test), template, the published split
WORLDS = {
    "oxford_pets": (write_pets, ["abyssinian", "american pit bull terrier", "bengal"], (8, 2, 10),
                    "a photo of a {}, a type of pet.", "split_zhou_OxfordPets.json"),
    "caltech101": (write_caltech, ["face", "leopard", "motorbike", "accordion", "airplane", "sea horse"], (5, 2, 3),
                   "a photo of a {}.", "split_zhou_Caltech101.json"),
    "stanford_cars": (write_cars, ["2000 AM General Hummer SUV", "2012 Ram C/V Cargo Van Minivan"], (8, 2, 10),
                      "a photo of a {}.", "split_zhou_StanfordCars.json"),
    "flowers102": (write_flowers, ["primrose", "hard-leaved pocket orchid", "bells"], (5, 2, 3),
                   "a photo of a {}, a type of flower.", "split_zhou_OxfordFlowers.json"),
    "food101": (write_food, ["apple pie", "baby back ribs", "waffles"], (5, 2, 3),
                "a photo of {}, a type of food.", "split_zhou_Food101.json"),
    "fgvc_aircraft": (write_aircraft, ["707-320", "F/A-18"], (6, 2, 2), "a photo of a {}, a type of aircraft.", None),
    "sun397": (write_sun, ["abbey", "outdoor apartment building", "youth hostel"], (8, 2, 10),
               "a photo of a {}.", "split_zhou_SUN397.json"),
    "dtd": (write_dtd, ["banded", "polka-dotted", "zigzagged"], (5, 2, 3), "{} texture.",
            "split_zhou_DescribableTextures.json"),
    "eurosat": (write_eurosat, EUROSAT, (5, 2, 3), "a centered satellite photo of {}.", "split_zhou_EuroSAT.json"),
    "ucf101": (write_ucf, ["Apply Eye Makeup", "Hammering", "Hammer Throw", "Yo Yo"], (8, 2, 7),
               "a photo of a person doing {}.", "split_zhou_UCF101.json"),
}  # fmt: skip
ONE_LAYOUT = ("stanford_cars", "food101", "eurosat", "ucf101")
CASES = [(n, layout) for n in WORLDS for layout in ("torchvision", "coop") if layout == "coop" or n not in ONE_LAYOUT]


def load(name, root):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return load_world(name, root=root), [str(w.message) for w in said]


@pytest.mark.parametrize("name, layout", CASES)
def test_a_data_set_comes_with_its_names_splits_and_template(tmp_path, name, layout):
    writer, names, sizes, template, published = WORLDS[name]
    writer(tmp_path, layout)
    if (name, layout) == ("sun397", "torchvision"):
        sizes = (40, 10, 50)  # without the official lists: a hundred of each class
    world, said = load(name, tmp_path)
    if (name, layout) == ("flowers102", "torchvision"):
        assert len(world.classnames) == 102 and world.classnames[:2] == ("pink primrose", "hard-leaved pocket orchid")
    else:
        assert world.classnames == tuple(names)
    assert world.templates == (template,) and world.name == name and world.shifts == {}
    every = []
    for split, size in zip((world.train, world.val, world.test), sizes):
        seen = marks(split)
        assert split.labels.tolist() == [label for label, _ in seen]
        assert split.labels.bincount().tolist() == [size] * len(names)
        every += seen
    assert len(every) == len(set(every))  # no picture in two splits
    if published:
        (warning,) = said
        assert f"{published} is not there, so {name} is split otherwise" in warning
        assert str(tmp_path / datasets.DATASETS[name].place) in warning
    else:
        assert said == []
    if sizes[2] == PER_CLASS:  # the official test list
        assert {number for _, number in marks(world.test)} == set(range(PER_CLASS, 2 * PER_CLASS))
    assert world.student == ("ViT-B-32-quickgelu", "openai") and world.teacher == ("ViT-L-14-quickgelu", "openai")
    assert len(world.dictionary) > 20_000


def test_ucf_is_tested_on_the_groups_of_official_list_1(tmp_path):
    write_ucf(tmp_path, "coop")
    world, _ = load("ucf101", tmp_path)
    assert {number for _, number in marks(world.test)} == set(range(7))  # v_…_g01 to v_…_g07
    picture(tmp_path / "ucf101" / "UCF-101-midframes" / "Yo_Yo" / "mine.jpg", 0, 0)
    with pytest.raises(ValueError, match="mine.jpg is no frame of UCF101"):
        load_world("ucf101", root=tmp_path)


@pytest.mark.parametrize("name", WORLDS)
def test_no_split_depends_on_the_order_of_a_directory(tmp_path, name, monkeypatch):
    WORLDS[name][0](tmp_path, "coop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, plain = datasets.read_dataset(name, tmp_path), Path.iterdir
        monkeypatch.setattr(
            Path, "iterdir", lambda self: iter(random.Random(4).sample(found := [*plain(self)], len(found)))
        )
        again = datasets.read_dataset(name, tmp_path)
    assert again == first and len(first.train) > 0
    labels = [[label for _, label in files.train] for files in (first, again)]
    shots = [[files.train[i] for i in few_shot(y, 2, seed=1)] for files, y in zip((first, again), labels)]
    assert shots[0] == shots[1]


def test_cuts_differ_between_classes_and_stay_where_the_folder_is_moved(tmp_path):
    for home in ("here", "there"):
        write_eurosat(tmp_path / home, "coop")
    here, there = (load("eurosat", tmp_path / home)[0] for home in ("here", "there"))
    assert marks(here.train) == marks(there.train)
    numbers = np.array([number for _, number in marks(here.train)]).reshape(10, 5)
    assert len({tuple(row) for row in numbers.tolist()}) > 5  # not the same five of every class


@pytest.mark.parametrize("name, layout", [case for case in CASES if WORLDS[case[0]][4]])
def test_the_published_split_goes_before(tmp_path, name, layout):
    """Paths below the folder of pictures; class 1 is called otherwise, and the order of the list is kept."""
    writer, names, _, _, published = WORLDS[name]
    writer(tmp_path, layout)
    home = next(tmp_path / place for place in datasets.DATASETS[name].pictures if (tmp_path / place).is_dir())
    at = {Image.open(p).getpixel((0, 0))[:2]: p.relative_to(home).as_posix()
          for p in home.rglob("[!.]*.jpg")}  # fmt: skip
    called = lambda label: "quite_another" if label == 1 else f"class_{label}"  # noqa: E731
    lists = {"train": [(1, 3), (0, 2), (1, 0)], "val": [(0, 7)], "test": [(1, 1), (0, 9)]}
    split = {part: [[at[mark], mark[0], called(mark[0])] for mark in chosen] for part, chosen in lists.items()}
    beside = home if name == "stanford_cars" or home.parent == tmp_path else home.parent
    (beside / published).write_text(json.dumps(split))
    world, said = load(name, tmp_path)
    assert said == [] and world.classnames == ("class 0", "quite another")
    for part, chosen in lists.items():
        assert marks(getattr(world, part)) == chosen
        assert getattr(world, part).labels.tolist() == [label for label, _ in chosen]


# What is missing


ALL = [*WORLDS, "imagenet", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r", "pathmnist"]


@pytest.mark.parametrize("name", ALL)
def test_without_a_network_it_says_what_to_put_where(tmp_path, name):
    with pytest.raises(FileNotFoundError) as error:
        load_world(name, root=tmp_path)
    message, known = str(error.value), datasets.DATASETS[name]
    assert str(tmp_path / known.place) in message and all(archive in message for archive in known.archives)
    assert message.startswith(f"{name} is not in {tmp_path}") and message.endswith("load it again.")
    assert "\n" not in message and ("unpack" in message) == (known.fetch is None)


def test_the_table_lists_every_world_of_the_real_track():
    assert set(ALL) == set(datasets.DATASETS) and set(ALL) <= set(world_names())


@pytest.mark.parametrize(
    "name, gone",
    [("oxford_pets", "annotations/trainval.txt"), ("stanford_cars", "devkit/cars_meta.mat"),
     ("flowers102", "imagelabels.mat"), ("fgvc_aircraft", "images_variant_val.txt"), ("sun397", "ClassName.txt")],
)  # fmt: skip
def test_half_a_data_set_is_called_incomplete(tmp_path, name, gone):
    WORLDS[name][0](tmp_path, "coop")
    (path,) = tmp_path.rglob(gone)
    path.unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_world(name, root=tmp_path)
    message = str(error.value)
    assert (
        f"{name} is incomplete" in message and path.name in message and datasets.DATASETS[name].archives[0] in message
    )


def test_an_empty_folder_is_no_data_set(tmp_path):
    (tmp_path / "eurosat" / "2750").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="eurosat is incomplete .*2750.*no subfolder of pictures"):
        load_world("eurosat", root=tmp_path)


def test_the_environment_says_where_data_sets_are(tmp_path, monkeypatch):
    write_aircraft(tmp_path, "coop")
    monkeypatch.setenv("KDPL_DATA", str(tmp_path))
    assert load_world("fgvc_aircraft").classnames == ("707-320", "F/A-18")


def test_a_picture_that_was_not_unpacked_is_named(tmp_path):
    write_aircraft(tmp_path, "coop")
    world = load_world("fgvc_aircraft", root=tmp_path)
    (tmp_path / "fgvc_aircraft" / "images" / "0000000.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="0000000.jpg is missing: unpack its archive again"):
        world.train.images[0]
    (tmp_path / "fgvc_aircraft" / "images" / "0000001.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="0000001.jpg cannot be read as a picture .*remove it."):
        world.train.images[1]


# Archives put there by hand: what the sentence above advises does work


def tar(made, inside, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name in inside:
            archive.add(made / name, name)
    return buffer.getvalue()


def zipped(made, inside):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted((made / inside).rglob("*")):
            archive.write(path, path.relative_to(made))
    return buffer.getvalue()


def caltech_zip(made):
    buffer = io.BytesIO()
    (made / "empty").mkdir()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("caltech-101/101_ObjectCategories.tar.gz", tar(made / "caltech101", ["101_ObjectCategories"]))
        archive.writestr("caltech-101/Annotations.tar", tar(made, ["empty"], "w"))
    return buffer.getvalue()


ARCHIVES = {  # the file's last part → what is in it
    "oxford_pets": lambda m: {f"{p}.tar.gz": tar(m / "oxford-iiit-pet", [p]) for p in ("images", "annotations")},
    "flowers102": lambda m: {"102flowers.tgz": tar(m / "flowers-102", ["jpg"]),
                             **{f: (m / "flowers-102" / f).read_bytes() for f in ("imagelabels.mat", "setid.mat")}},
    "food101": lambda m: {"food-101.tar.gz": tar(m, ["food-101"])},
    "fgvc_aircraft": lambda m: {"fgvc-aircraft-2013b.tar.gz": tar(m, ["fgvc-aircraft-2013b"])},
    "sun397": lambda m: {"SUN397.tar.gz": tar(m, ["SUN397"])},
    "dtd": lambda m: {"dtd-r1.0.1.tar.gz": tar(m / "dtd", ["dtd"])},
    "eurosat": lambda m: {"EuroSAT.zip": zipped(m / "eurosat", "2750")},
    "caltech101": lambda m: {"caltech-101.zip": caltech_zip(m)},
}  # fmt: skip


def accept_any_checksum(monkeypatch):
    """torchvision compares archives with those that were published; these are ours."""
    for module in (torchvision.datasets.utils, torchvision.datasets.flowers102, torchvision.datasets.imagenet):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).is_file())


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_put_there_by_hand_are_used(tmp_path, monkeypatch, name):
    accept_any_checksum(monkeypatch)
    known = datasets.DATASETS[name]
    WORLDS[name][0](tmp_path / "made", "torchvision")
    place = tmp_path / "root" / known.place
    place.mkdir(parents=True)
    packed = ARCHIVES[name](tmp_path / "made")
    assert list(packed) == [archive.rsplit("/", 1)[1] for archive in known.archives]
    for file, content in packed.items():
        (place / file).write_bytes(content)
    world, _ = load(name, tmp_path / "root")
    assert marks(world.train) == marks(load(name, tmp_path / "made")[0].train) != []


def test_a_split_may_wait_for_its_pictures(tmp_path, monkeypatch):
    accept_any_checksum(monkeypatch)
    write_eurosat(tmp_path / "made", "torchvision")
    place = tmp_path / "root" / "eurosat"
    place.mkdir(parents=True)
    (place / "EuroSAT.zip").write_bytes(zipped(tmp_path / "made" / "eurosat", "2750"))
    split = {
        "train": [["Forest/image_0002.jpg", 1, "Forest"]],
        "val": [],
        "test": [["River/image_0003.jpg", 8, "River"]],
    }
    (place / "split_zhou_EuroSAT.json").write_text(json.dumps(split))
    world, said = load("eurosat", tmp_path / "root")
    assert said == [] and (marks(world.train), marks(world.test)) == ([(1, 1)], [(8, 2)])
    assert world.classnames == ("Forest", "River") and world.test.labels.tolist() == [1]


# ImageNet


WNIDS = ("n01440764", "n03773504", "n04008634", "n04355933", "n04356056")  # tench, and the two pairs of doubles
TITLES = ("tench", "missile", "projectile", "sunglass", "sunglasses")


def write_imagenet(root, layout, train=3, classes=WNIDS):
    home = root / "imagenet" / ("images" if layout == "coop" else "")
    for label, wnid in enumerate(classes):
        for number in range(train):
            picture(home / "train" / wnid / f"{wnid}_{number}.JPEG", label, number)
        for number in range(2):
            picture(home / "val" / wnid / f"ILSVRC2012_val_{label:04d}{number:04d}.JPEG", label, 50 + number)


def write_shift(home, folders, first):
    for label, folder in enumerate(folders):
        picture(home / folder / "1.jpg", label, first)


def test_imagenet_names_are_a_thousand_different_ones():
    from open_clip import IMAGENET_CLASSNAMES

    names = imagenet.imagenet_names()
    assert list(names) == sorted(names) and len(names) == len(set(names.values())) == 1000
    assert tuple(names[w] for w in WNIDS) == TITLES
    changed = [(a, b) for a, b in zip(IMAGENET_CLASSNAMES, names.values()) if a != b]
    assert changed == [("missile", "projectile"), ("sunglasses", "sunglass")]


@pytest.mark.parametrize("layout", ["torchvision", "coop"])
def test_imagenet_is_tested_on_its_validation_pictures(tmp_path, layout):
    write_imagenet(tmp_path, layout)
    world, said = load("imagenet", tmp_path)
    assert said == [] and world.classnames == TITLES and world.shifts == {}
    assert marks(world.train) == [(y, n) for y in range(5) for n in range(3)]
    assert marks(world.test) == [(y, n) for y in range(5) for n in (50, 51)]
    assert world.test.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    with pytest.raises(ValueError, match="imagenet has no validation pictures"):
        of_classes(world.val, world.base)


def test_imagenet_without_its_training_pictures_is_for_testing(tmp_path):
    write_imagenet(tmp_path, "torchvision", train=0)
    world, _ = load("imagenet", tmp_path)
    assert len(world.train) == 0 and len(world.test) == 10
    with pytest.raises(ValueError, match="imagenet has no training pictures: learn from another world"):
        of_classes(world.train, world.base)


PLACES = {
    "imagenetv2": "imagenetv2/imagenetv2-matched-frequency-format-val",
    "imagenet_sketch": "imagenet-sketch/images",
    "imagenet_a": "imagenet-adversarial/imagenet-a",
    "imagenet_r": "imagenet-rendition/imagenet-r",
}


def test_the_four_shifts_are_worlds_and_shifts_of_imagenet(tmp_path):
    write_imagenet(tmp_path, "coop", classes=WNIDS[:4])
    write_shift(tmp_path / PLACES["imagenetv2"], ["0", "657", "744", "836"], first=60)
    write_shift(tmp_path / PLACES["imagenet_sketch"], WNIDS[:4], first=70)
    write_shift(tmp_path / PLACES["imagenet_a"], [WNIDS[1], WNIDS[3]], first=80)
    write_shift(tmp_path / PLACES["imagenet_r"], [WNIDS[2], WNIDS[4]], first=90)  # the second is not in this imagenet
    world, _ = load("imagenet", tmp_path)
    assert tuple(world.shifts) == imagenet.SHIFTS and world.targets == datasets.TARGETS
    labels = {name: split.labels.tolist() for name, split in world.shifts.items()}
    assert labels["imagenetv2"] == labels["imagenet_sketch"] == [0, 1, 2, 3]
    assert labels["imagenet_a"] == [1, 3] and labels["imagenet_r"] == [2]
    assert marks(world.shifts["imagenet_a"]) == [(0, 80), (1, 80)]
    present = world.shifts["imagenet_a"].labels.unique().tolist()
    alone = of_classes(world.shifts["imagenet_a"], present)
    assert alone.labels.tolist() == [0, 1] and [world.classnames[y] for y in present] == ["missile", "sunglass"]
    own, _ = load("imagenet_a", tmp_path)
    assert own.classnames == ("missile", "sunglass") and own.test.labels.tolist() == [0, 1] and len(own.train) == 0
    assert load("imagenetv2", tmp_path)[0].classnames == TITLES[:4]


def test_v2_counts_its_folders_instead_of_sorting_them(tmp_path):
    write_shift(tmp_path / PLACES["imagenetv2"], ["10", "9", "657"], first=0)
    world, _ = load("imagenetv2", tmp_path)
    names = list(imagenet.imagenet_names().values())
    assert world.classnames == (names[9], names[10], "missile") and marks(world.test) == [(1, 0), (0, 0), (2, 0)]


def test_a_folder_that_is_no_class_of_imagenet_is_named(tmp_path):
    write_shift(tmp_path / PLACES["imagenet_r"], ["n00000001"], first=0)
    with pytest.raises(ValueError, match="'n00000001', which is no class of ImageNet-1k"):
        load_world("imagenet_r", root=tmp_path)


def test_imagenets_own_archives_are_unpacked(tmp_path, monkeypatch):
    accept_any_checksum(monkeypatch)
    made, place = tmp_path / "made", tmp_path / "root" / "imagenet"
    place.mkdir(parents=True)
    write_imagenet(made, "torchvision", classes=WNIDS[:2])
    fields = [("id", object), ("wnid", object), ("words", object), ("gloss", object), ("children", object)]
    rows = [(1, WNIDS[1], "missile", "", 0), (2, WNIDS[0], "tench, Tinca tinca", "", 0), (3, "n0", "thing", "", 2)]
    kit = made / "ILSVRC2012_devkit_t12" / "data"
    savemat(kit / "meta.mat", synsets=np.array(rows, dtype=fields))
    write(kit / "ILSVRC2012_validation_ground_truth.txt", "2\n2\n1\n1\n")
    (place / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(tar(made, ["ILSVRC2012_devkit_t12"]))
    for wnid in WNIDS[:2]:
        (made / f"{wnid}.tar").write_bytes(
            tar(made / "imagenet" / "train" / wnid, [f"{wnid}_0.JPEG", f"{wnid}_1.JPEG"], "w")
        )
    (place / "ILSVRC2012_img_train.tar").write_bytes(tar(made, [f"{wnid}.tar" for wnid in WNIDS[:2]], "w"))
    for path in (made / "imagenet" / "val").rglob("*.JPEG"):
        path.rename(made / path.name)
    names = sorted(p.name for p in made.glob("ILSVRC2012_val_*"))
    (place / "ILSVRC2012_img_val.tar").write_bytes(tar(made, names, "w"))
    world, _ = load("imagenet", tmp_path / "root")
    assert world.classnames == TITLES[:2] and marks(world.train) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert marks(world.test) == [(0, 50), (0, 51), (1, 50), (1, 51)]


# MedMNIST


def write_pathmnist(folder, size, pixels):
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for first, part in ((0, "train"), (10, "val"), (20, "test")):
        images = np.zeros((3, pixels, pixels, 3), dtype=np.uint8)
        images[..., 0], images[..., 1] = np.array([2, 0, 8])[:, None, None], first + np.arange(3)[:, None, None]
        arrays |= {f"{part}_images": images, f"{part}_labels": np.array([[2], [0], [8]], dtype=np.uint8)}
    np.savez_compressed(folder / f"pathmnist{size}.npz", **arrays)


def test_pathmnist_is_read_from_its_largest_file(tmp_path):
    write_pathmnist(tmp_path / "medmnist", "", 28)
    assert load("pathmnist", tmp_path)[0].test.images[0].size == (28, 28)
    write_pathmnist(tmp_path / "medmnist", "_64", 64)
    world, said = load("pathmnist", tmp_path)
    assert said == [] and len(world.classnames) == 9 and world.templates == ("a histopathology image of {}.",)
    for first, split in ((0, world.train), (10, world.val), (20, world.test)):
        assert marks(split) == [(2, first), (0, first + 1), (8, first + 2)] and split.labels.tolist() == [2, 0, 8]
    assert world.train.images[0].size == (64, 64)
    unpacked = tmp_path / "medmnist" / "pathmnist_64" / "train_images.npy"
    assert np.load(unpacked, mmap_mode="r").shape == (3, 64, 64, 3) and not list(tmp_path.rglob("*.part"))


def test_pathmnist_names_are_medmnists():
    info = pytest.importorskip("medmnist").INFO["pathmnist"]["label"]
    assert official.PATHMNIST_NAMES == tuple(info[str(i)] for i in range(9))


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    write_flowers(tmp_path, "coop")
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"^This needs scipy: pip install scipy, or 'kdpl-notebooks\[data\]'.$"
    ):
        load_world("flowers102", root=tmp_path)


# What is there in part, damaged, or in a place that cannot be written to


def of_size(monkeypatch, name, *size):
    monkeypatch.setitem(datasets.DATASETS, name, replace(datasets.DATASETS[name], size=size))


def test_every_published_size_is_known():
    assert all(len(data.size) == 2 + (name == "imagenet") for name, data in SIZES.items())
    assert SIZES["eurosat"].size == (len(official.EUROSAT_NAMES), 27_000)
    assert SIZES["pathmnist"].size[0] == len(official.PATHMNIST_NAMES)
    for name, shift in (("imagenet", "imagenetv2"), ("imagenet", "imagenet_sketch"), ("imagenet_a", "imagenet_r")):
        assert SIZES[name].size[0] == SIZES[shift].size[0]


SIZES = dict(datasets.DATASETS)


def test_three_of_ten_folders_are_no_eurosat(tmp_path, monkeypatch):
    of_size(monkeypatch, "eurosat", 10, 100)
    write_classes(tmp_path / "eurosat" / "2750", ["Forest", "Highway", "River"], hidden=False)
    with pytest.raises(
        FileNotFoundError, match="eurosat is incomplete .* has 3 classes, and not 10: unpack .*EuroSAT.zip"
    ):
        load_world("eurosat", root=tmp_path)
    write_eurosat(tmp_path, "coop")
    (_, ready), _ = load("eurosat", tmp_path), None
    assert not any("pictures, and not" in sentence for sentence in ready)
    next((tmp_path / "eurosat" / "2750" / "River").iterdir()).unlink()
    assert any("eurosat has 99 pictures, and not 100 as published: unpack" in s for s in load("eurosat", tmp_path)[1])


def test_two_of_imagenets_classes_are_no_imagenet(tmp_path, monkeypatch):
    of_size(monkeypatch, "imagenet", 1000, 50_000, 1_331_167)
    write_imagenet(tmp_path, "torchvision", classes=WNIDS[:2])
    with pytest.raises(FileNotFoundError, match="imagenet is incomplete .* has 2 classes, and not 1000"):
        load_world("imagenet", root=tmp_path)


def test_listed_pictures_that_are_not_there_are_said_at_once(tmp_path):
    write_aircraft(tmp_path, "coop")
    (tmp_path / "fgvc_aircraft" / "images" / "0000001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="incomplete: 1 of its pictures are missing .*0000001.jpg.: unpack"):
        load_world("fgvc_aircraft", root=tmp_path)


GOOD = {"train": [["River/image_0001.jpg", 1, "River"]], "val": [], "test": [["Forest/image_0002.jpg", 0, "Forest"]]}
SPLITS = {  # content of a published split → what is said of it
    "a web page": ("<!doctype html><title>404</title>", "Expecting value"),
    "nothing": ("", "Expecting value"),
    "cut": (json.dumps(GOOD)[:-40], "."),
    "a list": ("[]", "it has no lists train and test"),
    "null": ("null", "it has no lists train and test"),
    "no training": (json.dumps({"test": GOOD["test"]}), "it has no lists train and test"),
    "empty lists": (json.dumps({"train": [], "val": [], "test": []}), "its lists are empty"),
    "rows of two": (json.dumps(GOOD | {"train": [["a.jpg", 1]]}), "."),
    "labels in words": (json.dumps(GOOD | {"train": [["a.jpg", "1", "a"]]}), "is not .path, number, name."),
    "numbers for rows": (json.dumps(GOOD | {"train": 3}), "."),
    "two names of a label": (
        json.dumps(GOOD | {"val": [["a.jpg", 1, "Lake"]]}),
        "label 1 is called 'River' and 'Lake'",
    ),
    "a way out": (json.dumps(GOOD | {"val": [["../../secret.jpg", 1, "River"]]}), "leads out of the folder"),
    "not text": (b"\xff\xfe\x00\x01", "."),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_a_broken_split_is_named(kind, tmp_path):
    content, reason = SPLITS[kind]
    write_eurosat(tmp_path, "coop")
    path = tmp_path / "eurosat" / "split_zhou_EuroSAT.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        ValueError, match=rf"split_zhou_EuroSAT.json is not .*cut short .*{reason}.*: fetch it again"
    ) as caught:
        load_world("eurosat", root=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{}, {"val": None}, "no val", "byte-order mark"])
def test_a_split_is_understood(change, tmp_path):
    write_eurosat(tmp_path, "coop")
    split = {k: v for k, v in GOOD.items() if k != "val"} if change == "no val" else dict(GOOD)
    split.update(change if isinstance(change, dict) else {})
    text = ("\ufeff" if change == "byte-order mark" else "") + json.dumps(split)
    (tmp_path / "eurosat" / "split_zhou_EuroSAT.json").write_text(text, encoding="utf-8")
    world, said = load("eurosat", tmp_path)
    assert said == [] and world.classnames == ("Forest", "River") and marks(world.train) == [(8, 0)]
    assert len(world.val) == 0


LISTS = [
    ("oxford_pets", "trainval.txt"),
    ("stanford_cars", "cars_meta.mat"),
    ("stanford_cars", "cars_train_annos.mat"),
    ("flowers102", "imagelabels.mat"),
    ("flowers102", "cat_to_name.json"),
    ("fgvc_aircraft", "images_variant_train.txt"),
    ("sun397", "Testing_01.txt"),
]


@pytest.mark.parametrize("content", [b"", b"<!doctype html><title>404</title>\n", b"\xff\xfe\x00", b"MATLAB 5.0"])
@pytest.mark.parametrize("name, file", LISTS)
def test_a_broken_list_is_named(name, file, content, tmp_path):
    WORLDS[name][0](tmp_path, "coop")
    (path,) = tmp_path.rglob(file)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file} is not .*, or was cut short .*: fetch it again") as caught:
        load_world(name, root=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", "cut"])
def test_a_broken_array_file_is_named(content, tmp_path):
    write_pathmnist(tmp_path / "medmnist", "_64", 64)
    path = tmp_path / "medmnist" / "pathmnist_64.npz"
    path.write_bytes(path.read_bytes()[:-100] if content == "cut" else content)
    with pytest.raises(ValueError, match="pathmnist_64.npz is not a file of MedMNIST, or was cut short"):
        load_world("pathmnist", root=tmp_path)
    assert not list((tmp_path / "medmnist").rglob("*.npy"))


def test_what_was_unpacked_in_part_is_unpacked_again(tmp_path, monkeypatch):
    """A first try is killed half-way: nothing of it lies in the place, and the next one begins anew."""
    accept_any_checksum(monkeypatch)
    write_eurosat(tmp_path / "made", "torchvision")
    place = tmp_path / "root" / "eurosat"
    place.mkdir(parents=True)
    (place / "EuroSAT.zip").write_bytes(zipped(tmp_path / "made" / "eurosat", "2750"))
    plain, data = datasets.DATASETS["eurosat"].fetch, datasets.DATASETS["eurosat"]

    def killed(root):
        plain(root)
        for left in list((root / "eurosat" / "2750").iterdir())[3:]:
            shutil.rmtree(left)
        raise KeyboardInterrupt

    monkeypatch.setitem(datasets.DATASETS, "eurosat", replace(data, fetch=killed))
    with pytest.raises(KeyboardInterrupt):
        load_world("eurosat", root=tmp_path / "root")
    assert not (place / "2750").exists() and (place / "EuroSAT.zip").is_file()
    monkeypatch.setitem(datasets.DATASETS, "eurosat", data)
    world, _ = load("eurosat", tmp_path / "root")
    assert len(world.classnames) == 10 and not list((tmp_path / "root").glob(".fetching-eurosat"))
    assert (place / "EuroSAT.zip").is_file() and not (place / "EuroSAT.zip").is_symlink()


def test_two_processes_unpack_one_set_once(tmp_path, monkeypatch):
    accept_any_checksum(monkeypatch)
    write_eurosat(tmp_path / "made", "torchvision")
    place = tmp_path / "root" / "eurosat"
    place.mkdir(parents=True)
    (place / "EuroSAT.zip").write_bytes(zipped(tmp_path / "made" / "eurosat", "2750"))
    data, times = datasets.DATASETS["eurosat"], []

    def fetch(root):
        times.append(1)
        time.sleep(0.2)
        data.fetch(root)

    monkeypatch.setitem(datasets.DATASETS, "eurosat", replace(data, fetch=fetch))
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: datasets.read_dataset("eurosat", tmp_path / "root"), range(2)))
    assert both[0] == both[1] and len(times) == 1


def test_a_place_that_cannot_be_written_to_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    for root, why in ((tmp_path / "file" / "data", "Not a directory"), (tmp_path / "file", "File exists")):
        with pytest.raises(OSError, match=rf"folder of data sets is .*file.*{why}.*let KDPL_DATA name another"):
            load_world("eurosat", root=root)
    monkeypatch.setattr(tempfile, "TemporaryFile", full_disk)
    with pytest.raises(OSError, match="and its disk is full: let KDPL_DATA name another folder"):
        load_world("eurosat", root=tmp_path / "root")
    with pytest.raises(OSError, match="and its disk is full"):
        load_world("emoji", root=tmp_path / "root", dictionary="open_images")


def full_disk(**_):
    raise OSError(28, "No space left on device")


def test_addresses_are_those_that_torchvision_has_now():
    source = inspect.getsource(torchvision.datasets.eurosat)
    if "huggingface" not in source:
        pytest.skip("an older torchvision")
    assert datasets.DATASETS["eurosat"].archives[0] in source


def test_a_disk_without_room_is_no_missing_data_set(tmp_path, monkeypatch):
    def full(*arguments):
        raise DiskFull("no room")

    monkeypatch.setattr(datasets, "fetch_beside", full)
    with pytest.raises(DiskFull, match="no room"):
        load_world("dtd", root=tmp_path)


def test_flowers_of_an_older_torchvision_have_no_names(tmp_path, monkeypatch):
    monkeypatch.delattr(torchvision.datasets.Flowers102, "classes", raising=False)
    with pytest.raises(FileNotFoundError, match="torchvision before 0.21 has no names of flowers: update it, or add"):
        official._flower_names()


def test_an_array_file_without_a_part_is_named(tmp_path):
    write_pathmnist(tmp_path / "medmnist", "", 28)
    with np.load(tmp_path / "medmnist" / "pathmnist.npz") as arrays:
        kept = {key: arrays[key] for key in arrays.files if key != "val_images"}
    np.savez_compressed(tmp_path / "medmnist" / "pathmnist.npz", **kept)
    with pytest.raises(ValueError, match="pathmnist.npz.*it has no val_images.npy"):
        load("pathmnist", tmp_path)


def test_a_fetch_that_brings_something_else_is_a_missing_data_set(tmp_path, monkeypatch):
    """An archive that was changed where it is published: what to put where is said as without a network."""
    monkeypatch.setattr(datasets, "fetch_beside", lambda *arguments: None)
    with pytest.raises(FileNotFoundError, match="dtd") as error:
        load_world("dtd", root=tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_array_files_names_the_one_to_fetch(tmp_path):
    with pytest.raises(FileNotFoundError, match="pathmnist_64.npz"):
        official.read_pathmnist(tmp_path)
