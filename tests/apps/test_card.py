"""The model card: what the hub reads, what it claims, and that names in it are only text."""

import re

import pytest
import yaml

from kdpl_utils.apps.card import CARD, as_code, listed, read_card, verdict, write_card

FACTS = {name: name for name in re.findall(r"\$(\w+)", CARD.read_text(encoding="utf-8")) if name != "measured"}


def test_what_the_hub_reads(tmp_path):
    card = write_card(tmp_path / "README.md", "run", {"agreement": 12.5}, "", **FACTS).read_text(encoding="utf-8")
    head, body = re.match(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    told = yaml.safe_load(head)
    assert told["pipeline_tag"] == "zero-shot-image-classification" and "prompt-learning" in told["tags"]
    assert body.lstrip().startswith("# Prompts learned from folder") and "* agreement: 12.5 %" in body


@pytest.mark.parametrize(
    "gain, n_test, words",
    [
        ((3.0, 1.0, 5.0), 500, "are better than none (+3.0 points, 95 % interval +1.0 to +5.0)."),
        ((-3.0, -5.0, -1.0), 500, "are worse than none"),
        ((3.0, -1.0, 7.0), 500, "are not shown to differ from none"),
        ((3.0, 1.0, 5.0), 12, "12 test pictures are few"),
    ],
)
def test_the_card_claims_no_more_than_the_interval(gain, n_test, words):
    assert words in verdict(gain, n_test) and ("few" in verdict(gain, n_test)) == (n_test < 200)


def test_names_in_a_card_are_text(tmp_path):
    wild = ["<img src=x onerror=alert(1)>", "[a](http://b)", "`code`", "two\nlines", "-->", "$names ${folder}"]
    facts = FACTS | {"names": listed(wild), "folder": as_code("# <b>\n")}
    card = write_card(tmp_path / "README.md", "run", {}, "", **facts).read_text(encoding="utf-8")
    assert all(as_code(name) in card for name in wild) and "\nlines" not in card
    outside = re.sub(r"(`+).*?\1", "", card)
    assert "<img" not in outside and "](http" not in outside
    assert listed(["oak"] * 41).endswith(" …")


def test_only_the_page_as_written_is_known(tmp_path):
    page = write_card(tmp_path / "README.md", "run", {"agreement": 12.5}, "", **FACTS)
    assert read_card(page) | {"page": ""} == {"run": "run", "measured": {"agreement": 12.5}, "page": ""}
    page.write_text(page.read_text().replace("# Prompts", "# My prompts"))
    assert read_card(page) == {} == read_card(tmp_path / "nowhere.md")
