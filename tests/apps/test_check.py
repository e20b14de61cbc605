"""The check of the real track, on small folders and a shipped model in place of real ones."""

from dataclasses import replace

import pytest

import kdpl_utils as kd
from kdpl_utils.apps import check as module
from kdpl_utils.apps.check import compare
from kdpl_utils.apps.cli import main


@pytest.fixture(scope="module")
def right():
    """A model, pictures of eight classes, and what it scores in the published number's place."""
    vlm = kd.load_vlm("emoji-teacher-small", device="cpu")
    world = kd.load_world("emoji-colour/activities")
    pictures = world.test.of_classes(range(8)).subset(range(80))
    names = world.classnames[:8]
    z = kd.logits(kd.encode_images(vlm, pictures.images), kd.encode_names(vlm, names), vlm.scale)
    return vlm, names, pictures, 100 * kd.accuracy(z, pictures.labels)


def test_the_published_number_is_right_within_its_tolerance(right):
    vlm, names, pictures, published = right
    assert compare(vlm, names, pictures, published - 0.4)[0] and not compare(vlm, names, pictures, published + 0.7)[0]


def test_names_in_another_order_are_recognised(right):
    vlm, names, pictures, published = right
    assert published > 50
    fits, sentence = compare(vlm, (*names[3:], *names[:3]), pictures, published)
    assert not fits and "the class names are in another order" in sentence
    fits, sentence = compare(vlm, names, pictures, published + 3)
    assert not fits and "not the published ones" in sentence


def test_the_command_says_what_is_right_and_what_is_missing(right, monkeypatch, capsys):
    vlm, names, pictures, published = right
    world = replace(kd.load_world("emoji-colour/activities"), classnames=names, test=pictures)
    there = {"oxford_pets": world, "emoji": world}

    def load_world(name, root):
        if name not in there:
            raise FileNotFoundError(f"{name} is not in {root}: put it there.")
        return there[name]

    def load_vlm(name, weights):
        if weights == "openai":
            raise FileNotFoundError(f"The weights of {name} could not be downloaded: fetch them.")
        return replace(vlm, name=name)

    table = kd.paper_tables()
    table["zero_shot"]["RN50-quickgelu"]["oxford_pets"] = published
    monkeypatch.setattr(module, "paper_tables", lambda: table)
    monkeypatch.setattr(module, "load_world", load_world)
    monkeypatch.setattr(module, "load_vlm", load_vlm)
    given = ["check", "--model", "RN50-quickgelu//w.pt", "ViT-B-32-quickgelu/openai", "--root", "/data", "--world"]
    assert main([*given, "oxford_pets", "dtd", "emoji"]) == 0
    printed = capsys.readouterr().out
    assert "dtd was not checked: dtd is not in /data: put it there." in printed and module.MIRROR in printed
    assert "kdpl check --model ViT-B-32-quickgelu//path/to/file" in printed
    assert "RN50-quickgelu on emoji: no published number" in printed and "1 comparisons" in printed
    table["zero_shot"]["RN50-quickgelu"]["oxford_pets"] = published + 9
    assert main([*given, "oxford_pets"]) == 1
    assert main([*given, "dtd"]) == 1 and "0 comparisons" in capsys.readouterr().out


def test_published_numbers_have_a_source_and_are_those_of_the_tables():
    table = kd.paper_tables()["zero_shot"]
    assert "published, not run here" in table["note"] and "KDPL" in table["source"]
    known = kd.paper_tables()["domain_generalization"]
    for name, model in (("RN50", "RN50-quickgelu"), ("ViT-B/32", "ViT-B-32-quickgelu")):
        shifts = ("imagenet", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
        assert [table[model][world] for world in shifts] == known[name]["CLIP zero-shot"][:5]
