"""The model card: what the hub reads, what it claims, and that names in it are only text."""

import re

import pytest
import yaml

import kdpl_utils as kd
from kdpl_utils.apps.card import Facts, as_code, front_matter, model_card, read_card, write_card

CLIP = ("ViT-B-32-quickgelu", "openai")
SHIPPED = ("emoji-student-vit", None)


@pytest.fixture(scope="module")
def learner():
    return kd.CoOp(kd.load_vlm("emoji-student-rn", device="cpu"))


def facts(**changes) -> Facts:
    given = {"folder": "pictures", "mode": "kdpl", "label_fraction": 0.0, "student": CLIP, "teacher": SHIPPED}
    given |= {"recipe": kd.Recipe(), "names": ["red panda", "ox"], "n_train": 30, "n_test": 12}
    return Facts(**{**given, **changes})


@pytest.mark.parametrize(
    "student, base",
    [
        (CLIP, "timm/vit_base_patch32_clip_224.openai"),
        (("hf-hub:someone/tiny", None), "someone/tiny"),
        (("ViT-B-32-quickgelu", "/home/me/weights.pt"), None),
        (SHIPPED, None),
    ],
)
def test_what_the_hub_reads(student, base, learner):
    card = model_card(facts(student=student), learner, True)
    head, body = re.match(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    told = yaml.safe_load(head)
    assert told.get("base_model") == base and told["pipeline_tag"] == "zero-shot-image-classification"
    assert {"clip", "coop", "kdpl"} <= set(told["tags"]) and "metrics" not in told
    assert body.lstrip().startswith("# Prompts learned from `pictures`")
    assert front_matter(student, ["coop", "kdpl"]) == [*card.split("\n")[: head.count("\n") + 3], ""]


@pytest.mark.parametrize(
    "gain, verdict",
    [
        ((3.0, 1.0, 5.0), "are better than none (+3.0 points, 95 % interval over classes +1.0 to +5.0)"),
        ((-3.0, -5.0, -1.0), "are worse than"),
        ((3.0, -1.0, 7.0), "are not shown to differ from"),
        (None, ""),
    ],
)
def test_the_card_claims_no_more_than_the_interval(gain, verdict, learner):
    card = model_card(facts(measured={"test accuracy, learned": 50.0}, gain=gain), learner, True)
    assert verdict in card and ("interval" in card) == bool(verdict) and "test accuracy, learned: 50.0 %" in card


@pytest.mark.parametrize(
    "changes, words",
    [
        ({}, "(no label was used)"),
        ({"label_fraction": 0.25}, "(25% of the labels were used)"),
        ({"mode": "labels"}, "(labels were used)"),
        ({"left_out": 2}, "2 could not be read"),
        ({"n_test": 0, "measured": {"agreement": 1.0}}, "Measured on the pictures it was learned from"),
        ({"names": [], "picked": ["oak"], "dictionary": "imagenet21k"}, "picked most from `imagenet21k`: `oak`"),
        ({"student": SHIPPED}, "load_classifier('classifier.safetensors', kd.load_vlm('emoji-student-vit'))"),
    ],
)
def test_the_card_says_what_it_rests_on(changes, words, learner):
    assert words in model_card(facts(**changes), learner, True)


def test_names_in_a_card_are_text(learner):
    wild = ["<img src=x onerror=alert(1)>", "[a](http://b)", "`code`", "two\nlines", "-->"]
    card = model_card(facts(names=wild, folder="# <b>\n"), learner, True)
    assert all(as_code(name) in card for name in wild) and "\nlines" not in card
    outside = re.sub(r"(`+).*?\1", "", card)
    assert "<img" not in outside and "](http" not in outside


def test_only_the_page_as_written_is_known(tmp_path):
    page = write_card(tmp_path / "README.md", "# A card\n", "run", {"agreement": 12.5})
    assert read_card(page) | {"page": ""} == {"run": "run", "measured": {"agreement": 12.5}, "page": ""}
    page.write_text(page.read_text().replace("A card", "My card"))
    assert read_card(page) == {} == read_card(tmp_path / "nowhere.md")
