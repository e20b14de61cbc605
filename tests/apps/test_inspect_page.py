"""The page of kdpl inspect: its numbers are those of the logits, and nothing in it but its own script can run."""

import base64
import hashlib
import io
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from hostile import comparison
from PIL import Image

from kdpl_utils.apps.inspect_page import LOOKS, PARTS, as_json, numbers, page_path, write_page
from kdpl_utils.evaluate import expected_calibration_error, kl_bits
from kdpl_utils.plots.style import ROLES


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_page(comparison(), tmp_path_factory.mktemp("page") / "a.html", most=20).read_text(encoding="utf-8")


def test_names_cannot_leave_the_data(text):
    assert text.count("<script") == text.count("</script>") == 2 and "<i>" not in text and "&lt;i&gt;pictures" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert any("</script><script>alert(2)</script>" in row[0] for entry in data["shown"] for row in entry["table"])
    assert as_json("</script><!--&\u2028") == '"\\u003c/script\\u003e\\u003c!--\\u0026\\u2028"'


def test_only_the_pages_own_script_and_style_may_run(text):
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and rules["base-uri"] == "'none'"
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    addresses = re.findall(r'(?:src|href)="(.*?)"', text)
    assert [address for address in addresses if not address.startswith(("data:", "#"))] == []
    script = (PARTS / "inspect.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script), "names are text nodes"


def test_numbers_are_those_of_the_logits():
    compared = comparison()
    found = numbers(compared, most=5)
    teacher, after = compared.logits["teacher"], compared.logits["student after"]
    known = compared.labels >= 0
    row = found["summary"][2]
    assert row["kl"] == pytest.approx(kl_bits(teacher, after).mean().item(), abs=1e-5)
    assert row["agreement"] == pytest.approx((teacher.argmax(1) == after.argmax(1)).float().mean().item())
    assert row["accuracy"] == pytest.approx((after[known].argmax(1) == compared.labels[known]).float().mean().item())
    assert row["ece"] == expected_calibration_error(after[known].softmax(1), compared.labels[known])
    nats = torch.distributions.Categorical(logits=after).entropy().mean().item()
    assert row["entropy"] == pytest.approx(nats / math.log(2), abs=1e-5)
    kl = [entry["kl"][-1] for entry in found["shown"]]
    assert kl == sorted(kl, reverse=True) and len(kl) == 5 and kl[0] == kl_bits(teacher, after).max()
    for entry in found["shown"]:
        i = compared.paths.index(entry["path"])
        assert entry["top"] == [compared.names[int(z[i].argmax())] for z in compared.logits.values()]
        assert entry["label"] == (compared.names[int(compared.labels[i])] if known[i] else None)
        assert sum(row[1] for row in entry["table"]) + entry["rest"][0] == pytest.approx(1, abs=1e-5)
        picture = Image.open(io.BytesIO(base64.b64decode(entry["image"].split(",")[1])))
        assert max(picture.size) <= 176 and not picture.getexif() and picture.size == (entry["width"], entry["height"])
    assert sum("95 % interval" in note for note in found["notes"]) == 2


def test_without_labels_nothing_is_claimed():
    compared = comparison()
    found = numbers(replace(compared, labels=torch.full_like(compared.labels, -1)), most=20)
    assert found["curves"] == {} and not any("accuracy" in row for row in found["summary"])
    assert found["notes"] == compared.notes and all(entry["label"] is None for entry in found["shown"])


def test_roles_have_the_colours_of_all_figures():
    light = (PARTS / "inspect.css").read_text().split("@media")[0]
    for role, look in LOOKS.items():
        assert f"--{look}: {ROLES[role]['color']}" in light


def test_only_an_earlier_page_is_replaced(tmp_path):
    mine = tmp_path / "notes.html"
    mine.write_text("<p>mine</p>")
    with pytest.raises(ValueError, match="notes.html exists and is not a page of kdpl inspect"):
        page_path(mine)
    first = write_page(replace(comparison(pictures=1), paths=["caf\udce9.png"]), page_path(tmp_path), most=2)
    assert first == tmp_path / "inspect.html" and page_path(tmp_path) == first
    assert "caf\\udce9.png" in first.read_text(encoding="utf-8"), "a file name that is not Unicode"
