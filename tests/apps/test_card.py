"""The head of a model card is what the hub reads."""

import re
from dataclasses import replace

import pytest
import yaml

import kdpl_utils as kd
from kdpl_utils.apps.card import front_matter, hub_name, model_card
from kdpl_utils.experiments.training import Training

CLIP = ("ViT-B-32-quickgelu", "openai")
LARGE = ("ViT-L-14-quickgelu", "openai")


def job(student=CLIP, mode="kdpl"):
    return Training("x", "coop", mode, 1, student, (LARGE,), kd.Recipe())


def head(card):
    """The YAML between the dashes that a file must begin with, and what follows."""
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found
    return yaml.safe_load(found[1]), card[found.end() :]


@pytest.mark.parametrize("folder", ["my pictures", "no: such *folder* #1", "Küche 'und' \"garden\" 🌳"])
def test_what_the_hub_reads(folder):
    told, _ = head("\n".join(front_matter(folder, job(), {"test accuracy, learned": 51.234})))
    assert told["base_model"] == "timm/vit_base_patch32_clip_224.openai"
    assert (told["license"], told["license_name"]) == ("other", "not-chosen")
    assert told["pipeline_tag"] == "zero-shot-image-classification" and told["metrics"] == ["accuracy"]
    assert {"clip", "prompt-learning", "coop", "kdpl"} <= set(told["tags"])
    ((result,),) = (index["results"] for index in told["model-index"])
    assert result["dataset"]["name"] == folder and result["task"]["type"] == told["pipeline_tag"]
    assert result["metrics"][0]["type"] == "accuracy" and result["metrics"][0]["value"] == 0.5123


def test_nothing_measured_is_nothing_claimed():
    told, _ = head("\n".join(front_matter("x", job(student=("emoji-student-vit", None)), {})))
    assert "model-index" not in told and "base_model" not in told


def test_repositories_of_the_hub():
    assert hub_name("hf-hub:someone/tiny", None) == "someone/tiny"
    assert hub_name("RN50-quickgelu", "openai") == "timm/resnet50_clip.openai"
    assert hub_name("ViT-B-32-quickgelu", "/home/me/weights.pt") == "" == hub_name("emoji-student-vit", None)


def test_the_whole_card_begins_with_it():
    student = kd.load_vlm("emoji-student-vit", device="cpu")
    world = kd.load_world("emoji/activities")
    card = model_card("folder", world, job(), kd.CoOp(student), {"test accuracy, learned": 50.0}, None, 1.0)
    told, body = head(card)
    assert told["model-index"] and body.lstrip().startswith("# Prompts learned from")


@pytest.mark.parametrize(
    "mode, labelled, words",
    [
        ("kdpl", 0.0, "no label was used in training"),
        ("kdpl", 0.25, "25% of the labels were used"),
        ("labels", 0.0, "labels were used"),
    ],
)
def test_the_card_says_whether_labels_were_used(mode, labelled, words):
    student = kd.load_vlm("emoji-student-vit", device="cpu")
    asked = replace(job(mode=mode), labelled=labelled)
    card = model_card("folder", kd.load_world("emoji/activities"), asked, kd.CoOp(student), {}, None, 1.0)
    assert f"({words})" in card
