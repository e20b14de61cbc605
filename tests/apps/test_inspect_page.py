"""The page of kdpl inspect: its numbers are those of the logits, and no name in it is anything but text."""

import base64
import hashlib
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from hostile import NAMES, comparison
from PIL import Image

from kdpl_utils.apps.inspect_page import LOOKS, PARTS, as_json, page, page_path, write_page
from kdpl_utils.evaluate import expected_calibration_error, kl_bits
from kdpl_utils.plots.style import ROLES


class Reader(HTMLParser):
    """What a browser makes of the page: elements with their attributes, the text, the contents of scripts."""

    VOID = {"meta", "link", "img", "input", "path", "rect"}

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.raw, self.open = [], [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.raw.setdefault(self.open[-1], []).append(data)
        else:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def shown():
    return Reader(page(comparison(), most=20))


def test_names_are_text(shown):
    """All of them, in cards and in the list of classes; the page has no element that a name has made."""
    assert shown.open == []
    text = "".join(shown.words)
    for name in NAMES:
        assert text.count(name) >= 2, name
    plain = replace(comparison(), names=list("abcdefghijkl"), paths=[f"{i}/p.png" for i in range(24)])
    harmless = Reader(page(plain, most=20))
    assert {tag for tag, _ in shown.elements} == {tag for tag, _ in harmless.elements}
    assert len(shown.all("script")) == len(harmless.all("script"))
    images = shown.all("img")
    assert len(images) == 20 and all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert not any(name.startswith("on") or name == "style" for _, attributes in shown.elements for name in attributes)
    assert any("<b>folder</b>" in image["alt"] for image in images), "file names as well"


def test_the_data_cannot_end_its_element(shown):
    assert len(shown.raw["script"]) == len(shown.all("script")) == 2
    data = json.loads(shown.raw["script"][0])
    assert len(data) == 20 and any("</script><script>alert(2)</script>" in entry["text"] for entry in data)
    assert as_json("</script><!--&\u2028") == '"\\u003c/script\\u003e\\u003c!--\\u0026\\u2028"'


def test_only_the_pages_own_script_and_style_may_run(shown):
    (policy,) = (m["content"] for m in shown.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and rules["base-uri"] == "'none'"
    for kind, content in (("script", shown.raw["script"][1]), ("style", shown.raw["style"][0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    addresses = [a[key] for _, a in shown.elements for key in ("src", "href") if key in a]
    assert [a for a in addresses if not a.startswith(("data:", "#"))] == []


def test_numbers_are_those_of_the_logits():
    compared = comparison()
    text = re.sub(r"\s+", " ", " ".join(Reader(page(compared, most=5)).words))
    teacher, after = compared.logits["teacher"], compared.logits["student after"]
    kl = kl_bits(teacher, after)
    assert f"{kl.max():.2f} bits from the teacher" in text and f"{kl.mean():.2f} bits" in text
    assert "Shown are the 5 of 24 pictures" in text
    known = compared.labels >= 0
    right = (after[known].argmax(1) == compared.labels[known]).float().mean()
    error = expected_calibration_error(after[known].softmax(1), compared.labels[known])
    nats = torch.distributions.Categorical(logits=after).entropy().mean()
    row = re.search(r"student after (\S+ \S+ bits \S+ \S+ bits \S+ \S+)", text)
    assert row[1].split()[4:] == [f"{nats / math.log(2):.2f}", "bits", f"{right:.1%}", f"{error:.1%}"]


def test_data_says_who_is_right_and_who_agrees():
    compared = comparison()
    data = json.loads(Reader(page(compared, most=24)).raw["script"][0])
    kl = [entry["kl"][-1] for entry in data]
    assert kl == sorted(kl, reverse=True) and all(abs(entry["kl"][0]) < 1e-5 for entry in data)
    for entry in data:
        i = compared.paths.index(entry["path"])
        answers = [int(z[i].argmax()) for z in compared.logits.values()]
        label = int(compared.labels[i])
        assert entry["agree"] == (answers[0] == answers[-1])
        assert entry["right"] == ("" if label < 0 else "".join(str(int(a == label)) for a in answers))
        assert set(entry["classes"]) == {*answers, label} - {-1}


def test_without_labels_nothing_is_claimed():
    compared = comparison()
    unlabelled = replace(compared, labels=torch.full_like(compared.labels, -1))
    text = page(unlabelled, most=20)
    assert "neither accuracy nor calibration" in text and "★</span>" not in text and "interval" not in text
    assert "Reliability diagram" not in text and "both wrong" not in text


def test_one_name_and_one_picture_are_not_many():
    compared = comparison(pictures=1, labelled=False)
    two = replace(compared, names=compared.names[:2], logits={r: z[:, :2] for r, z in compared.logits.items()})
    text = page(two, most=9)
    assert "1 picture, 2 names" in text and "other name" not in text and "All pictures are shown" in text


def test_pictures_are_small_and_say_nothing_of_their_camera(shown):
    for image in shown.all("img"):
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1])))
        assert max(picture.size) <= 176 and not picture.getexif()
        assert picture.size == (int(image["width"]), int(image["height"]))


def test_roles_have_the_colours_of_all_figures():
    style = (PARTS / "inspect.css").read_text()
    light = style.split("@media")[0]
    for role, look in LOOKS.items():
        assert f"--{look}: {ROLES[role]['color']}" in light


def test_only_an_earlier_page_is_replaced(tmp_path):
    mine = tmp_path / "notes.html"
    mine.write_text("<p>mine</p>")
    with pytest.raises(ValueError, match="notes.html is there and no page of kdpl inspect: give another place"):
        page_path(mine)
    first = write_page(comparison(pictures=3), page_path(tmp_path), most=2)
    assert first == tmp_path / "inspect.html" and page_path(tmp_path) == first
    assert page_path(tmp_path / "new" / "a.html") == tmp_path / "new" / "a.html"


def test_file_names_that_are_no_unicode(tmp_path):
    compared = replace(comparison(pictures=1), paths=["caf\udce9.png"])
    assert "caf?.png" in write_page(compared, tmp_path / "a.html", most=1).read_text(encoding="utf-8")
