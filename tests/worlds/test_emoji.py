import hashlib
import os
import subprocess
import sys
import zlib
from dataclasses import astuple

import numpy as np
import pytest
import torch
from safetensors import safe_open

import pretrain
from kdpl_utils.support.shipped import data_file
from kdpl_utils.worlds import drawings as emoji
from kdpl_utils.worlds.emoji import EMOJI_STUDENTS, EMOJI_TEACHERS, STYLES, classes_of, emoji_names
from kdpl_utils.worlds.load import load_world
from kdpl_utils.worlds.world import of_classes, random_crops

EMOJI_WORLDS = tuple(name for name in emoji_names() if "/" in name)


@pytest.fixture(scope="module")
def world():
    return load_world()


def digest(images):
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


# The emoji world


@pytest.mark.parametrize("name", EMOJI_WORLDS)
def test_each_group_is_a_data_set_with_enough_pictures(name):
    world, meta = load_world(name), emoji.metadata()
    kind, group = name.split("/")
    styles = STYLES[kind]
    concepts = {c["name"]: i for i, c in enumerate(meta["concepts"])}
    ids = [concepts[c] for c in world.classnames]
    drawn = [
        set(meta["styles"][style]["drawn"]) for roles in STYLES.values() for role in astuple(roles) for style in role
    ]
    kept = {i for i, c in enumerate(meta["concepts"]) if c["group"] == group and all(i in d for d in drawn)}
    assert world.name == name and len(ids) >= 50 and set(ids) == kept
    assert list(world.classnames) == sorted(world.classnames, key=str.lower)
    assert [*world.base, *world.novel] == list(range(len(ids)))
    assert world.train.labels.bincount().tolist() == [32] * len(ids)
    assert tuple(world.shifts) == styles.shifts and bool(len(world.val)) == bool(styles.val)
    judged = [world.test] + [world.val] * bool(styles.val)
    for half in (world.base, world.novel):
        assert all(len(of_classes(split, half)) >= 1000 for split in judged)
        assert not styles.shifts or sum(len(of_classes(split, half)) for split in world.shifts.values()) >= 1000
    for split in (world.train, *judged, *world.shifts.values()):
        counts = split.labels.bincount(minlength=len(ids))
        assert len(split.images) == len(split.labels) and (counts == counts[0]).all()
    assert all(len(split) >= 1000 for split in world.shifts.values())


def test_the_default_worlds_are_food(world):
    assert world.name == "emoji/food-drink" and world.classnames == load_world("emoji/food-drink").classnames
    colour = load_world("emoji-colour")
    assert colour.name == "emoji-colour/food-drink" and colour.classnames == world.classnames
    assert world.student == ("emoji-student-rn", None) and world.teacher == ("emoji-teacher-large", None)
    assert world.templates == ("a photo of a {}.",)


# No leaks


@pytest.mark.parametrize("kind", STYLES)
def test_no_style_has_two_roles(kind):
    styles = [style for role in astuple(STYLES[kind]) for style in role]
    assert len(set(styles)) == len(styles) and set(styles) <= set(emoji.metadata()["styles"])


@pytest.mark.parametrize("kind", STYLES)
def test_no_model_has_seen_a_style_that_it_is_tested_on_and_no_student_one_that_it_learns_from(kind):
    roles = STYLES[kind]
    seen = {name: set(recipe.styles) for name, recipe in pretrain.RECIPES.items()}
    assert set(seen) == {name for name, _ in (*EMOJI_STUDENTS, *EMOJI_TEACHERS)}
    for name, pretrained_on in seen.items():
        assert not pretrained_on & {*roles.test, *roles.shifts, *roles.val}, name
        if name.startswith("emoji-student"):
            assert not pretrained_on & set(roles.adaptation), name


def test_the_shipped_weights_say_what_they_were_trained_on():
    """The recipe in the file of each model, not only the script's of today, is free of the tested styles."""
    tested = [style for roles in STYLES.values() for style in (*roles.test, *roles.shifts, *roles.val)]
    for name, _ in (*EMOJI_STUDENTS, *EMOJI_TEACHERS):
        with safe_open(data_file(f"models/{name}.safetensors"), "pt") as weights:
            recipe = weights.metadata()["recipe"]
        tested = [style for styles in STYLES.values() for style in (*styles.test, *styles.shifts, *styles.val)]
        assert "'captions'" in recipe and "'noto'" in recipe and not any(f"'{style}'" in recipe for style in tested), (
            name
        )


def test_no_drawing_of_a_test_is_one_that_was_learned_from():
    """Nor a copy of one under another style's name: the outlines differ, drawing by drawing."""
    for styles in STYLES.values():
        for tested in styles.test:
            for other in (*styles.adaptation, *styles.val):
                outlines = [
                    emoji.sprites(style)[torch.tensor(classes_of("objects"))][:, 3].float() / 255
                    for style in (tested, other)
                ]
                difference = (outlines[0] - outlines[1]).abs().mean(dim=(1, 2))
                assert difference.min() > 0.001, (tested, other)


def test_a_picture_shows_the_drawing_that_its_label_names(world):
    """Seen in the same view, no other drawing is nearer to it, and its own is the same to the last bit."""
    names = [c["name"] for c in emoji.metadata()["concepts"]]
    rows = torch.tensor([names.index(c) for c in world.classnames])
    for split, part, style, start in [
        (world.train, "train", "openmoji-black", 0),
        (world.test, "test", "emojione-monotone", 0),
        (world.val, "val", "noto-emoji", 0),
        (world.shifts["emojione-v1"], "shift", "emojione-v1", 0),
    ]:
        drawings = emoji.sprites(style)[rows].float() / 255
        size = len(split) // (2 if part == "train" else 1)
        views = emoji.sample_views(size, zlib.crc32(f"emoji/food-drink/{part}/{style}".encode()))
        for i in range(0, size, 29):
            one = emoji.Views(*(field[[i] * len(rows)] for field in vars(views).values()))
            picture = torch.from_numpy(np.array(split.images[start + i])).permute(2, 0, 1) / 255
            error = (emoji.render(drawings, one) - picture).abs().amax((1, 2, 3))
            assert error.argmin() == split.labels[start + i] and error.min() < 1 / 255


def test_no_picture_is_in_two_splits(world):
    train, test = ({image.tobytes() for image in split.images} for split in (world.train, world.test))
    assert len(train) == len(world.train) and len(test) == len(world.test) and not train & test


PROBE = """
import hashlib
import kdpl_utils as kd
world = kd.load_world()
images = [s.images[i] for s in (world.shifts["fluent-emoji"], world.test, world.train) for i in (700, 3, -1)]
images += list(kd.random_crops(world.train.images, 2, seed=5)[:2])
few = kd.few_shot(world.train.labels, 4, seed=1).tolist()
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
    split = load_world().test.subset([1, 2])
    random_crops(split.images, 3, seed=0)
    with pytest.raises(TypeError):
        split.images[0]


def test_the_dictionary_has_thousands_of_names_that_fit(world):
    from open_clip import SimpleTokenizer

    names = world.dictionary
    assert len(names) >= 4000 and len({n.casefold() for n in names}) == len(names)
    assert all(n == n.strip() and n for n in names)
    for name in EMOJI_WORLDS:
        other = load_world(name)
        assert other.dictionary == names and set(other.classnames) <= set(names)
    tokenizer = SimpleTokenizer(bpe_path=str(data_file("bpe.txt.gz")))
    longest = max(len(tokenizer.encode(world.templates[0].format(n))) + 2 for n in names)  # with start and end
    assert longest <= 32


def test_another_dictionary_changes_nothing_else(world):
    other = load_world(dictionary=["Apple", "apple", "quince"])
    assert other.dictionary == ("Apple", "quince")
    assert other.classnames == world.classnames and digest(other.test.images[:5]) == digest(world.test.images[:5])


def test_the_contrast_has_no_validation_pictures():
    with pytest.raises(ValueError, match="no validation pictures"):
        of_classes(load_world("emoji-colour").val, range(2))
