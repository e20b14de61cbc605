import ast
import hashlib
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from safetensors import safe_open

from kdpl_utils.support.shipped import data_file
from kdpl_utils.worlds import drawings as emoji
from kdpl_utils.worlds.emoji import (
    ARTISTS,
    EMOJI_STUDENTS,
    EMOJI_TEACHERS,
    KINDS,
    PIXEL_STYLE,
    PRETRAINING_STYLES,
    classes_of,
    emoji_names,
    roles_of,
)
from kdpl_utils.worlds.load import load_world
from kdpl_utils.worlds.world import of_classes, random_crops

EMOJI_WORLDS = tuple(name for name in emoji_names() if "/" in name)


@pytest.fixture(scope="module")
def world():
    return load_world()


def digest(images):
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


# The emoji world


EXPECTED_CLASSES = {
    "activities": 55, "animals-nature": 108, "food-drink": 87,
    "objects": 176, "smileys-emotion": 122, "travel-places": 169,
}  # fmt: skip


def splits_of(world):
    return {"train": world.train, "val": world.val, "test": world.test, **world.shifts}


@pytest.mark.parametrize("name", EMOJI_WORLDS)
def test_each_group_is_a_data_set_with_enough_pictures(name):
    world, concepts = load_world(name), emoji.metadata()["concepts"]
    kind, group = name.split("/")
    n_classes = EXPECTED_CLASSES[group]
    assert world.name == name and len(world.classnames) == n_classes
    assert list(world.classnames) == sorted(world.classnames, key=str.lower)
    assert {c["group"] for c in concepts if c["name"] in world.classnames} == {group}
    assert [*world.base, *world.novel] == list(range(n_classes))
    assert world.train.labels.bincount().tolist() == [32] * n_classes
    assert tuple(world.shifts) == (("colour", "pixel") if kind == "emoji" else ())
    for part, split in splits_of(world).items():
        counts = split.labels.bincount(minlength=n_classes)
        assert len(split.images) == len(split.labels) == len(split.styles) and (counts == counts[0]).all()
        for half in (world.base, world.novel):
            assert part == "train" or len(of_classes(split, half)) >= 1000


def test_the_default_worlds_are_food(world):
    assert world.name == "emoji/food-drink" and world.classnames == load_world("emoji/food-drink").classnames
    colour = load_world("emoji-colour")
    assert colour.name == "emoji-colour/food-drink" and colour.classnames == world.classnames
    assert world.student == ("emoji-student-rn", None) and world.teacher == ("emoji-teacher-large", None)
    assert world.templates == ("a photo of a {}.",)


# No leaks


def artists_of_class(split, label):
    """The artists whose drawings of a class are in a split."""
    artist = {style: name for name, styles in ARTISTS.items() for style in styles if style}
    return {artist[style] for style, drawn in zip(split.styles, split.labels.tolist()) if drawn == label}


@pytest.mark.parametrize("name", ["emoji/objects", "emoji-colour/objects"])
def test_no_class_is_tested_on_an_artist_that_it_was_learned_from(name):
    world = load_world(name)
    pairs = set()
    for label in range(len(world.classnames)):
        train, val, test = (artists_of_class(split, label) for split in (world.train, world.val, world.test))
        n_tested = 2 if name.startswith("emoji/") else 1
        assert (len(train), len(val), len(test)) == (2, 1, n_tested)
        assert not train & val and not train & test and not val & test
        if world.shifts:
            colour = artists_of_class(world.shifts["colour"], label)
            assert len(colour) == 2 and not colour & train
        pairs.add(frozenset(train))
    n_artists = 5 if name.startswith("emoji/") else 4
    assert len(pairs) == n_artists * (n_artists - 1) / 2  # every pair of artists teaches some class


def test_a_world_is_drawn_in_ink_and_its_contrast_in_colour(world):
    ink, colour = ({styles[i] for styles in ARTISTS.values()} - {None} for i in (0, 1))
    for split in (world.train, world.val, world.test):
        assert set(split.styles) == ink
    contrast = load_world("emoji-colour")
    for split in (world.shifts["colour"], contrast.train, contrast.val, contrast.test):
        assert set(split.styles) == colour
    assert set(world.shifts["pixel"].styles) == {PIXEL_STYLE}


def test_both_worlds_use_one_order_of_the_artists():
    for concept in classes_of("food-drink"):
        ink, colour = (roles_of(concept, kind) for kind in KINDS)
        order = [a for a in (*ink.train, *ink.val, *ink.test) if a != "symbola"]
        assert order == [*colour.train, *colour.val, *colour.test]


def test_no_model_was_pretrained_on_an_artist():
    of_the_world = {style for styles in ARTISTS.values() for style in styles} | {PIXEL_STYLE}
    assert not of_the_world & set(PRETRAINING_STYLES)


def test_the_shipped_weights_say_what_they_were_trained_on():
    """The corpus recorded in each file, not only today's script, is free of the world's artists."""
    for name, _ in (*EMOJI_STUDENTS, *EMOJI_TEACHERS):
        with safe_open(data_file(f"models/{name}.safetensors"), "pt") as weights:
            recipe = weights.metadata()["recipe"]
        recorded = re.search(r"'styles': (\([^)]*\))", recipe)
        assert recorded and ast.literal_eval(recorded[1]) == PRETRAINING_STYLES, name


def test_a_part_of_a_split_knows_its_styles(world):
    part = world.test.of_classes(world.novel)
    rows = [i for i, label in enumerate(world.test.labels.tolist()) if label in world.novel]
    assert part.styles == tuple(world.test.styles[i] for i in rows)
    assert part.crops(2, seed=0).styles == part.styles * 2 and part.crops(0, seed=0).styles == part.styles
    symbola = world.test.of_style("symbola")
    assert set(symbola.styles) == {"symbola"} and len(symbola) == world.test.styles.count("symbola") > 100
    i = world.test.styles.index("symbola")
    assert symbola.images[0].tobytes() == world.test.images[i].tobytes() and symbola.labels[0] == world.test.labels[i]


def test_a_picture_shows_the_drawing_that_its_label_and_style_name(world):
    """Seen in the same view, no other drawing of any style is nearer to it, and its own is the same to the last bit."""
    names = [c["name"] for c in emoji.metadata()["concepts"]]
    rows = torch.tensor([names.index(c) for c in world.classnames])
    for part, split in splits_of(world).items():
        for i in range(0, len(split), 131):
            style = split.styles[i]
            place = split.styles[:i].count(style)
            seed = zlib.crc32(f"emoji/food-drink/{part}/{style}".encode())
            views = emoji.sample_views(split.styles.count(style), seed)
            one = emoji.Views(*(field[[place] * len(rows)] for field in vars(views).values()))
            picture = torch.from_numpy(np.array(split.images[i])).permute(2, 0, 1) / 255
            error = (emoji.render(emoji.sprites(style)[rows].float() / 255, one) - picture).abs().amax((1, 2, 3))
            assert error.argmin() == split.labels[i] and error.min() < 1 / 255


def test_no_picture_is_in_two_splits(world):
    train, test = ({image.tobytes() for image in split.images} for split in (world.train, world.test))
    assert len(train) == len(world.train) and len(test) == len(world.test) and not train & test


PROBE = """
import hashlib
import kdpl_utils as kd
world = kd.load_world()
images = [s.images[i] for s in (world.shifts["pixel"], world.test, world.train) for i in (700, 3, -1)]
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
    assert len(names) >= 6000 and len({n.casefold() for n in names}) == len(names)
    assert all(n == n.strip() and n for n in names)
    for name in EMOJI_WORLDS:
        other = load_world(name)
        assert other.dictionary == names and set(other.classnames) <= set(names)
    tokenizer = SimpleTokenizer(bpe_path=str(data_file("bpe.txt.gz")))
    tokens = [tuple(tokenizer.encode(name)) for name in names]
    assert len(set(tokens)) == len(names)  # two names of the same tokens are one to a model
    longest = max(len(tokenizer.encode(world.templates[0].format(n))) + 2 for n in names)  # with start and end
    assert longest <= 32


def test_another_dictionary_changes_nothing_else(world):
    other = load_world(dictionary=["Apple", "apple", "quince"])
    assert other.dictionary == ("Apple", "quince")
    assert other.classnames == world.classnames and digest(other.test.images[:5]) == digest(world.test.images[:5])
