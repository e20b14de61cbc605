"""The emoji world: enough pictures, the right ones, and none that a model or a learner has seen."""

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
from kdpl_utils.worlds import drawings
from kdpl_utils.worlds.emoji import EMOJI_STUDENTS, EMOJI_TEACHERS, STYLES, classes_of, emoji_names
from kdpl_utils.worlds.load import load_world
from kdpl_utils.worlds.world import of_classes, random_crops


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.mark.parametrize("name", [name for name in emoji_names() if "/" in name])
def test_each_group_is_a_data_set_with_enough_pictures(name):
    world = load_world(name)
    styles = STYLES[world.name.split("/")[0]]
    n_classes = len(world.classnames)
    assert world.name == name and n_classes >= 50
    assert list(world.classnames) == sorted(world.classnames, key=str.lower)
    assert [*world.base, *world.novel] == list(range(n_classes))
    assert world.train.labels.bincount().tolist() == [32] * n_classes
    assert tuple(world.shifts) == styles.shifts and bool(len(world.val)) == bool(styles.val)
    judged = [world.test] + [world.val] * bool(styles.val)
    assert all(len(of_classes(split, half)) >= 1000 for split in judged for half in (world.base, world.novel))
    assert all(len(split) >= 1000 for split in world.shifts.values())
    for split in (world.train, *judged, *world.shifts.values()):
        assert len(set(split.labels.bincount(minlength=n_classes).tolist())) == 1


def test_the_default_worlds_are_food(world):
    colour = load_world("emoji-colour")
    assert (world.name, colour.name) == ("emoji/food-drink", "emoji-colour/food-drink")
    assert colour.classnames == world.classnames and world.templates == ("a photo of a {}.",)
    assert world.student == ("emoji-student-rn", None) and world.teacher == ("emoji-teacher-large", None)
    with pytest.raises(ValueError, match="no validation pictures"):
        of_classes(colour.val, range(2))


# No leaks


@pytest.mark.parametrize("kind", STYLES)
def test_no_style_has_two_roles_and_no_model_has_seen_one_that_it_is_tested_on(kind):
    roles = STYLES[kind]
    styles = [style for role in astuple(roles) for style in role]
    assert len(set(styles)) == len(styles) and set(styles) <= set(drawings.metadata()["styles"])
    assert set(pretrain.RECIPES) == {name for name, _ in (*EMOJI_STUDENTS, *EMOJI_TEACHERS)}
    for name, recipe in pretrain.RECIPES.items():
        assert not set(recipe.styles) & {*roles.test, *roles.shifts, *roles.val}, name
        if name.startswith("emoji-student"):
            assert not set(recipe.styles) & set(roles.adaptation), name


def test_the_shipped_weights_say_what_they_were_trained_on():
    """The recipe in the file of each model, not only the script's of today, is free of the tested styles."""
    tested = [style for roles in STYLES.values() for style in (*roles.test, *roles.shifts, *roles.val)]
    for name, _ in (*EMOJI_STUDENTS, *EMOJI_TEACHERS):
        with safe_open(data_file(f"models/{name}.safetensors"), "pt") as weights:
            recipe = weights.metadata()["recipe"]
        assert "'captions'" in recipe and "'noto'" in recipe, name
        assert not any(f"'{style}'" in recipe for style in tested), name


@pytest.mark.parametrize("kind", STYLES)
def test_no_drawing_of_a_test_is_a_copy_of_one_that_was_learned_from(kind):
    roles = STYLES[kind]
    rows = torch.tensor(classes_of("objects"))
    for tested in roles.test:
        for other in (*roles.adaptation, *roles.val):
            outlines = [drawings.sprites(style)[rows][:, 3].float() / 255 for style in (tested, other)]
            assert (outlines[0] - outlines[1]).abs().mean(dim=(1, 2)).min() > 0.001, (tested, other)


def test_a_picture_shows_the_drawing_that_its_label_names(world):
    """Seen in the same view, no other drawing is nearer to it, and its own is the same to the last bit."""
    names = [concept["name"] for concept in drawings.metadata()["concepts"]]
    rows = torch.tensor([names.index(name) for name in world.classnames])
    for split, part, style in (
        (world.train, "train", "openmoji-black"),
        (world.test, "test", "emojione-monotone"),
        (world.val, "val", "noto-emoji"),
        (world.shifts["emojione-v1"], "shift", "emojione-v1"),
    ):
        sprites = drawings.sprites(style)[rows].float() / 255
        size = len(split) // (2 if part == "train" else 1)
        views = drawings.sample_views(size, zlib.crc32(f"emoji/food-drink/{part}/{style}".encode()))
        for i in range(0, size, 97):
            one = drawings.Views(*(field[[i] * len(rows)] for field in vars(views).values()))
            picture = torch.from_numpy(np.array(split.images[i])).permute(2, 0, 1) / 255
            error = (drawings.render(sprites, one) - picture).abs().amax((1, 2, 3))
            assert error.argmin() == split.labels[i] and error.min() < 1 / 255


def test_no_picture_is_in_two_splits(world):
    train, test = ({image.tobytes() for image in split.images} for split in (world.train, world.test))
    assert len(train) == len(world.train) and len(test) == len(world.test) and not train & test


PROBE = """
import hashlib
import kdpl_utils as kd
world = kd.load_world()
images = [s.images[i] for s in (world.shifts["fluent-emoji"], world.test, world.train) for i in (700, 3, -1)]
text = repr((kd.few_shot(world.train.labels, 4, seed=1).tolist(), world.classnames, world.dictionary, world.test.key))
DIGEST = hashlib.sha256(b"".join(image.tobytes() for image in images) + text.encode()).hexdigest()
"""


def test_another_process_sees_the_same_world(world):
    here = {}
    list(world.train.images[:10])  # what was looked at before does not matter
    exec(PROBE, here)
    done = subprocess.run(
        [sys.executable, "-c", PROBE + "print(DIGEST)"],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == here["DIGEST"]


def test_loading_draws_nothing(monkeypatch):
    monkeypatch.setattr(drawings, "render", None)
    monkeypatch.setattr(drawings, "sprites", None)
    split = load_world().test.subset([1, 2])
    random_crops(split.images, 3, seed=0)
    with pytest.raises(TypeError):
        split.images[0]


def test_the_dictionary_has_thousands_of_names_that_fit(world):
    from open_clip import SimpleTokenizer

    names = world.dictionary
    assert len(names) >= 4000 and len({name.casefold() for name in names}) == len(names)
    for name in emoji_names():
        other = load_world(name)
        assert other.dictionary == names and set(other.classnames) <= set(names)
    tokenizer = SimpleTokenizer(bpe_path=str(data_file("bpe.txt.gz")))
    assert max(len(tokenizer.encode(f"a photo of a {name}.")) + 2 for name in names) <= 32  # with start and end
