import hashlib
import math
import os
import random
import subprocess
import sys
import zlib
from collections import defaultdict

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import RandomResizedCrop

from kdpl_utils import data, emoji
from kdpl_utils.files import data_file

EMOJI_WORLDS = tuple(name for name in data.world_names() if name.startswith("emoji/"))


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


def test_another_dictionary_changes_nothing_else(world):
    other = data.load_world(dictionary=["Apple", "apple", " quince "])
    assert other.dictionary == ("Apple", "quince")
    assert other.classnames == world.classnames and digest(other.test.images[:5]) == digest(world.test.images[:5])


def test_the_emoji_world_is_what_it_was(world):
    """Fields that real worlds brought are empty here."""
    assert len(world.val) == 0 and world.train.why == world.test.why == ""
    with pytest.raises(ValueError, match="no such pictures"):
        data.of_classes(world.val, world.base)


def test_an_unknown_world_lists_those_there_are():
    with pytest.raises(ValueError) as error:
        data.load_world("emoji/food")
    assert all(name in str(error.value) for name in ("emoji/food'", *data.world_names(), "path of a folder"))


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
    for without in (torch.empty(0), torch.full((3,), -1)):
        with pytest.raises(ValueError, match="have no labels: use random_subset"):
            data.few_shot(without, 1, seed=1)


def test_coop_few_shot_draws_as_the_published_code_does():
    """Written out here as Dassl runs it: the global generator, seeded once, class by class, training first."""
    train, val = [2, 0, 2, 1, 0, 2, 0, 2, 1, 0, 0], [1, 1, 0, 2, 0, 0, 0, 0, 0, 2]
    for seed, shots in ((1, 2), (2, 4), (3, 16)):
        random.seed(seed)
        expected = []
        for labels, n in ((train, shots), (val, min(shots, 4))):
            tracker = defaultdict(list)
            for i, label in enumerate(labels):
                tracker[label].append(i)
            expected.append([i for m in tracker.values() for i in (random.sample(m, n) if len(m) >= n else m)])
        state = random.getstate()
        drawn = data.coop_few_shot(torch.tensor(train), torch.tensor(val), shots, seed)
        assert [d.tolist() for d in drawn] == expected and random.getstate() == state


def test_a_random_subset_sees_no_label():
    drawn = data.random_subset(50, 10, seed=1)
    assert len(set(drawn.tolist())) == 10 and drawn.max() < 50
    assert torch.equal(drawn, data.random_subset(50, 10, seed=1)) and not torch.equal(
        drawn, data.random_subset(50, 10, 2)
    )
    assert sorted(data.random_subset(5, 10, seed=1).tolist()) == [0, 1, 2, 3, 4]
    assert len({int(data.random_subset(50, 1, seed)) for seed in range(500)}) == 50


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
