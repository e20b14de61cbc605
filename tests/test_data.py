import hashlib
import io
import json
import math
import os
import subprocess
import sys
import tarfile
import urllib.request
import warnings
import zlib
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.datasets import OxfordIIITPet
from torchvision.transforms import RandomResizedCrop

from kdpl_utils import data, datasets, emoji
from kdpl_utils.files import data_file

EMOJI_WORLDS = tuple(name for name in data.world_names() if name.startswith("emoji/"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture(scope="module")
def world():
    return data.load_world()


def digest(images):
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


# The emoji world


@pytest.mark.parametrize("name", EMOJI_WORLDS)
def test_each_group_is_a_data_set_with_enough_pictures(name):
    world, meta = data.load_world(name), emoji.metadata()
    concepts = {c["name"]: i for i, c in enumerate(meta["concepts"])}
    ids = [concepts[c] for c in world.classnames]
    styles = (*data.ADAPTATION_STYLES, *data.SHIFT_STYLES)
    drawn = {style: set(meta["styles"][style]["drawn"]) for style in styles}
    kept = {i for i, c in enumerate(meta["concepts"]) if c["group"] == name[6:] and all(i in d for d in drawn.values())}
    assert world.name == name and len(ids) >= 50 and set(ids) == kept
    assert list(world.classnames) == sorted(world.classnames, key=str.lower)
    assert [*world.base, *world.novel] == list(range(len(ids)))
    assert world.train.labels.bincount().tolist() == [32] * len(ids)
    assert set(world.shifts) == set(data.SHIFT_STYLES)
    for half in (world.base, world.novel):
        assert len(data.of_classes(world.test, half)) >= 1000
        assert sum(len(data.of_classes(split, half)) for split in world.shifts.values()) >= 1000
    for split in (world.train, world.test, *world.shifts.values()):
        counts = split.labels.bincount(minlength=len(ids))
        assert len(split.images) == len(split.labels) and (counts == counts[0]).all()
    assert all(len(split) >= 1000 for split in world.shifts.values())


def test_the_default_world_is_food(world):
    assert world.name == "emoji/food-drink" and world.classnames == data.load_world("emoji/food-drink").classnames
    assert world.student == ("emoji-student-rn", None) and world.teacher == ("emoji-teacher-large", None)
    assert world.templates == ("a photo of a {}.",)


def test_a_picture_shows_the_drawing_that_its_label_names(world):
    """Seen in the same view, no other drawing is nearer to it, and its own is the same to the last bit."""
    names = [c["name"] for c in emoji.metadata()["concepts"]]
    rows = torch.tensor([names.index(c) for c in world.classnames])
    for split, part, style, start in [
        (world.train, "train", "emojione", 0),
        (world.test, "test", "noto-v1", len(world.test) // 2),
        (world.shifts["emojione-v1"], "shift", "emojione-v1", 0),
    ]:
        drawings = emoji.sprites(style)[rows].float() / 255
        size = len(split) // (1 if part == "shift" else 2)
        views = emoji.sample_views(size, zlib.crc32(f"food-drink/{part}/{style}".encode()))
        for i in range(0, size, 29):
            one = emoji.Views(*(field[[i] * len(rows)] for field in vars(views).values()))
            picture = torch.from_numpy(np.array(split.images[start + i])).permute(2, 0, 1) / 255
            error = (emoji.render(drawings, one) - picture).abs().amax((1, 2, 3))
            assert error.argmin() == split.labels[start + i] and error.min() < 1 / 255


def test_no_picture_is_in_two_splits(world):
    train, test = ({image.tobytes() for image in split.images} for split in (world.train, world.test))
    assert len(train) == len(world.train) and len(test) == len(world.test) and not train & test


PROBE = """
import hashlib, torch
from kdpl_utils import data
world = data.load_world()
images = [s.images[i] for s in (world.shifts["fluent-emoji"], world.test, world.train) for i in (700, 3, -1)]
images += list(data.random_crops(world.train.images, 2, seed=5)[:2])
few = data.few_shot(world.train.labels, 4, seed=1).tolist()
text = repr((few, world.classnames, world.dictionary))
DIGEST = hashlib.sha256(b"".join(i.tobytes() for i in images) + text.encode()).hexdigest()
"""


def test_another_process_sees_the_same_world(world):
    here = {}
    list(world.train.images[:10])  # what was looked at before does not matter
    torch.rand(3)
    exec(PROBE, here)
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    there = subprocess.run(
        [sys.executable, "-c", PROBE + "print(DIGEST)"], env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here["DIGEST"]


def test_pictures_are_a_sequence(world):
    images = world.train.images
    assert images[0].size == (64, 64) and images[0].mode == "RGB"
    assert digest([images[-1]]) == digest([images[len(images) - 1]]) == digest(images[-1:])
    assert digest([images[torch.tensor(5)]]) == digest([images[np.int64(5)]]) == digest([images[5]])
    with pytest.raises(IndexError, match="outside"):
        images[len(images)]


def test_loading_draws_nothing(monkeypatch):
    monkeypatch.setattr(emoji, "render", None)
    monkeypatch.setattr(emoji, "sprites", None)
    split = data.load_world().test.subset([1, 2])
    data.random_crops(split.images, 3, seed=0)
    with pytest.raises(TypeError):
        split.images[0]


def test_the_dictionary_has_thousands_of_names_that_fit(world):
    from open_clip import SimpleTokenizer

    names = world.dictionary
    assert len(names) >= 4000 and len({n.casefold() for n in names}) == len(names)
    assert all(n == n.strip() and n for n in names)
    for name in EMOJI_WORLDS:
        other = data.load_world(name)
        assert other.dictionary == names and set(other.classnames) <= set(names)
    tokenizer = SimpleTokenizer(bpe_path=str(data_file("bpe.txt.gz")))
    longest = max(len(tokenizer.encode(world.templates[0].format(n))) + 2 for n in names)  # with start and end
    assert longest <= 32


def test_an_unknown_world_lists_those_there_are():
    with pytest.raises(ValueError) as error:
        data.load_world("emoji/food")
    assert all(name in str(error.value) for name in ("emoji/food'", *data.world_names()))


# Choosing pictures and classes


@pytest.mark.parametrize("n, base", [(1, 1), (2, 1), (37, 19), (102, 51), (47, 24), (10, 5), (397, 199), (101, 51)])
def test_base_is_the_larger_half(n, base):
    assert data.base_novel(n) == (range(base), range(base, n))


@pytest.mark.parametrize("shots", [1, 2, 4, 16])
def test_few_shot_takes_as_many_as_there_are(shots):
    sizes = {0: 20, 1: 3, 2: 16, 5: 7}  # uneven, and one label is left out
    labels = torch.tensor([y for y, n in sizes.items() for _ in range(n)])[torch.randperm(46)]
    chosen = data.few_shot(labels, shots, seed=3)
    assert chosen.dtype == torch.long and len(chosen.unique()) == len(chosen)
    assert {y: (labels[chosen] == y).sum().item() for y in sizes} == {y: min(n, shots) for y, n in sizes.items()}
    more = data.few_shot(labels, shots + 1, seed=3)
    assert set(chosen.tolist()) <= set(more.tolist())


def test_few_shot_depends_on_its_arguments_alone():
    labels = torch.arange(10).repeat(30)
    torch.manual_seed(0)
    first, state = data.few_shot(labels, 4, seed=1), torch.get_rng_state()
    torch.manual_seed(99)
    assert torch.equal(first, data.few_shot(labels.tolist(), 4, seed=1))
    assert not torch.equal(first, data.few_shot(labels, 4, seed=2))
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())
    early = (labels < 5).nonzero().flatten()  # base classes get the same pictures when novel ones are not there
    assert torch.equal(early[data.few_shot(labels[early], 4, seed=1)], first[:20])
    drawn = torch.cat([data.few_shot(labels, 4, seed) for seed in range(200)]).bincount(minlength=300)
    assert drawn.min() > 0  # no picture is out of reach
    with pytest.raises(ValueError, match="at least one picture"):
        data.few_shot(labels, 0, seed=1)


def test_subset_and_of_classes_keep_pictures_with_their_labels():
    labels = torch.tensor([3, 0, 2, 1, 2, 3])
    split = data.Split(data.Lazy(6, lambda i: 10 * int(labels[i]) + i), labels)
    part = split.subset([4, 0])
    assert list(part.images) == [24, 30] and part.labels.tolist() == [2, 3]
    novel = data.of_classes(split, range(2, 4))
    assert list(novel.images) == [30, 22, 24, 35] and novel.labels.tolist() == [1, 0, 0, 1]
    assert novel.labels.dtype == torch.long and len(data.of_classes(split, range(4, 6))) == 0
    twice = data.of_classes(split.subset(torch.tensor([5, 1, 0])), range(3, 4))
    assert list(twice.images) == [35, 30]


# Crops


def ramp(width, height):
    """A picture whose red is x and whose green is y."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))


def test_crops_are_functions_of_seed_and_index():
    images = [ramp(64, 64), ramp(80, 60), ramp(30, 90)]
    crops, again = (data.random_crops(images, 4, seed=2) for _ in range(2))
    assert len(crops) == 12
    assert [digest([again[i]]) for i in reversed(range(12))] == [digest([crops[i]]) for i in reversed(range(12))]
    assert digest(data.random_crops(images, 2, seed=2)) == digest(crops[:6])  # more views keep the first ones
    assert len({digest([c]) for c in crops}) == 12 and digest(data.random_crops(images, 4, seed=3)) != digest(crops)
    assert [crop.size for crop in crops[:4]] == [(64, 64), (60, 60), (30, 30), (64, 64)]


def test_a_crop_is_no_larger_than_a_model_wants():
    assert data.random_crops([Image.new("RGB", (500, 375))], 1, seed=0)[0].size == (336, 336)


def test_the_whole_area_leaves_the_picture_or_its_mirror():
    picture = ramp(64, 64)
    seen = [digest([crop]) for crop in data.random_crops([picture], 40, seed=0, scale=(1.0, 1.0))]
    upright, mirrored = digest([picture]), digest([ImageOps.mirror(picture)])
    assert set(seen) == {upright, mirrored} and 10 < seen.count(upright) < 30


def test_crops_are_drawn_as_torchvision_draws_them():
    picture = ramp(250, 250)
    ours = []
    for crop in data.random_crops([picture], 600, seed=0):
        red, green = (np.asarray(crop)[..., k].astype(int) for k in (0, 1))
        ours.append((np.ptp(red) + 1, np.ptp(green) + 1, red.min(), green.min()))
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(600)]
    theirs = [(w, h, x, y) for y, x, h, w in theirs]
    for a, b in zip(np.transpose(ours), np.transpose(theirs), strict=True):
        assert a.mean() == pytest.approx(b.mean(), abs=4 * b.std() * math.sqrt(2 / 600))
        assert a.std() == pytest.approx(b.std(), rel=0.15)


# Real data sets


def write_pets(folder):
    """The official layout, 3 breeds with 4 + 3 pictures; a picture's grey tells its breed and number."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    lists = {"trainval": [], "test": []}
    for label, (stem, species) in enumerate([("Abyssinian", 1), ("american_pit_bull_terrier", 2), ("Bengal", 1)], 1):
        for number in range(1, 8):
            mode = "L" if number == 1 else "RGB"  # a few of the real ones are not RGB
            value = 60 * label + 2 * number
            picture = Image.new(mode, (20, 16), value if mode == "L" else (value,) * 3)
            picture.save(folder / "images" / f"{stem}_{number}.jpg", quality=100)
            lists["trainval" if number <= 4 else "test"].append(f"{stem}_{number} {label} {species} 1")
    for name, lines in lists.items():
        (folder / "annotations" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    every = ["#Image CLASS-ID SPECIES BREED ID", *lists["trainval"], *lists["test"]]
    (folder / "annotations" / "list.txt").write_text("\n".join(every) + "\n")


def write_eurosat(folder):
    """The official layout, ten classes of ten pictures; a picture's grey tells its class and number."""
    for label, name in enumerate(sorted(datasets.EUROSAT_NAMES)):
        (folder / "2750" / name).mkdir(parents=True)
        for number in range(1, 11):
            grey = (20 * label + 2 * number,) * 3
            Image.new("RGB", (64, 64), grey).save(folder / "2750" / name / f"{name}_{number}.jpg", quality=100)


def greys(split):
    assert all(image.mode == "RGB" for image in split.images)
    return [image.getpixel((5, 5))[0] for image in split.images]


def test_pets_come_in_the_official_split(tmp_path):
    write_pets(tmp_path / "oxford-iiit-pet")
    with pytest.warns(UserWarning, match="split_zhou_OxfordPets.json is not there.*official trainval and test"):
        world = data.load_world("oxford_pets", root=tmp_path)
    assert world.classnames == ("abyssinian", "american pit bull terrier", "bengal")
    assert (world.base, world.novel) == (range(2), range(2, 3)) and world.shifts == {}
    assert world.templates == ("a photo of a {}, a type of pet.",)
    for split, numbers in [(world.train, range(1, 5)), (world.test, range(5, 8))]:
        assert greys(split) == [60 * label + 2 * n for label in (1, 2, 3) for n in numbers]
        assert split.labels.tolist() == [label for label in range(3) for _ in numbers]
    assert world.student == ("ViT-B-32-quickgelu", "openai") and world.teacher == ("ViT-L-14-quickgelu", "openai")
    assert world.teachers[-1] == ("ViT-H-14-quickgelu", "dfn5b") and ("RN50-quickgelu", "openai") in world.students


def test_eurosat_is_cut_into_50_20_30_a_class(tmp_path, monkeypatch):
    write_eurosat(tmp_path / "eurosat")
    monkeypatch.setenv("KDPL_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match="50 % training, 20 % validation, 30 % test"):
        world = data.load_world("eurosat")
    assert world.classnames == tuple(datasets.EUROSAT_NAMES[k] for k in sorted(datasets.EUROSAT_NAMES))
    assert world.train.labels.bincount().tolist() == [5] * 10 and world.test.labels.bincount().tolist() == [3] * 10
    for split in (world.train, world.test):
        assert [(g - 1) // 20 for g in greys(split)] == split.labels.tolist()
    assert not set(greys(world.train)) & set(greys(world.test))
    numbers = np.array(greys(world.train)).reshape(10, 5) - 20 * np.arange(10)[:, None]
    assert len({frozenset(row) for row in numbers.tolist()}) > 5  # not the same five of every class
    with pytest.warns(UserWarning):
        assert greys(data.load_world("eurosat").train) == greys(world.train)
    assert world.templates == ("a centered satellite photo of {}.",)


@pytest.mark.parametrize("folder", ["oxford-iiit-pet", "oxford_pets"])
def test_the_published_split_goes_before(tmp_path, folder):
    write_pets(tmp_path / folder)
    split = {
        "train": [["Bengal_1.jpg", 2, "bengal"], ["Abyssinian_6.jpg", 0, "abyssinian"]],
        "val": [["american_pit_bull_terrier_2.jpg", 1, "american_pit_bull_terrier"]],
        "test": [["american_pit_bull_terrier_3.jpg", 1, "american_pit_bull_terrier"]],
    }
    (tmp_path / folder / "split_zhou_OxfordPets.json").write_text(json.dumps(split))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world = data.load_world("oxford_pets", root=tmp_path)
    assert world.classnames == ("abyssinian", "american pit bull terrier", "bengal")
    assert (world.train.labels.tolist(), greys(world.train)) == ([2, 0], [182, 72])
    assert (world.test.labels.tolist(), greys(world.test)) == ([1], [126])


@pytest.mark.parametrize(
    "name, folder, archives",
    [("oxford_pets", "oxford-iiit-pet", ("images.tar.gz", "annotations.tar.gz")),
     ("eurosat", "eurosat", ("EuroSAT.zip",))],
)  # fmt: skip
def test_without_a_network_it_says_what_to_put_where(tmp_path, name, folder, archives):
    with pytest.raises(FileNotFoundError) as error:
        data.load_world(name, root=tmp_path)
    message = str(error.value)
    assert str(tmp_path / folder) in message and all(archive in message for archive in archives)
    assert message.endswith(".") and "\n" not in message and isinstance(error.value.__cause__, URLError)


def test_archives_put_there_by_hand_are_used(tmp_path, monkeypatch):
    """What the message above advises does work (the checksums of torchvision's list replaced by those of ours)."""
    write_pets(tmp_path / "made")
    folder, resources = tmp_path / "root" / "oxford-iiit-pet", []
    folder.mkdir(parents=True)
    for part in ("images", "annotations"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            archive.add(tmp_path / "made" / part, part)
        (folder / f"{part}.tar.gz").write_bytes(buffer.getvalue())
        resources.append((f"https://localhost/{part}.tar.gz", hashlib.md5(buffer.getvalue()).hexdigest()))
    monkeypatch.setattr(OxfordIIITPet, "_RESOURCES", tuple(resources))
    split = {"train": [["Bengal_1.jpg", 2, "bengal"]], "val": [], "test": [["Abyssinian_6.jpg", 0, "abyssinian"]]}
    (folder / "split_zhou_OxfordPets.json").write_text(json.dumps(split))  # came before its pictures
    world = data.load_world("oxford_pets", root=tmp_path / "root")
    assert greys(world.train) == [182] and (folder / "images" / "Bengal_7.jpg").exists()


def test_a_picture_that_was_not_unpacked_is_named(tmp_path):
    write_pets(tmp_path / "oxford-iiit-pet")
    (tmp_path / "oxford-iiit-pet" / "images" / "Bengal_2.jpg").unlink()
    with pytest.warns(UserWarning):
        world = data.load_world("oxford_pets", root=tmp_path)
    with pytest.raises(FileNotFoundError, match="Bengal_2.jpg is missing: unpack its archive again"):
        world.train.images[9]


def test_the_real_dictionary_is_wordnet():
    names = datasets.imagenet21k_names()
    assert len(names) > 20_000 and len({n.casefold() for n in names}) == len(names)
    assert "pipistrelle" in names and not any("," in n or "_" in n or n != n.strip() for n in names)
