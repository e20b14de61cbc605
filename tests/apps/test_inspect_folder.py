"""kdpl inspect on small folders: which names and labels it takes, what it compares, and what it says when it cannot."""

import json
import re

import pytest
import torch
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.apps import cli, inspect_folder
from kdpl_utils.evaluate import kl_bits

STUDENT, TEACHER = "emoji-student-rn", "emoji-teacher-small"
NAMES = ["bowling", "joker", "tennis"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures of each of three classes, in subfolders, and one that is cut short."""
    root = tmp_path_factory.mktemp("pictures")
    world = kd.load_world("emoji/activities")
    for name in NAMES:
        (root / name).mkdir()
        rows = (world.test.labels == world.classnames.index(name)).nonzero()[:2, 0].tolist()
        for i in rows:
            world.test.images[i].save(root / name / f"{i}.png")
    whole = next((root / "joker").glob("*.png")).read_bytes()
    (root / "joker" / "broken.png").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Files of a CoOp as a learner and as a classifier, and of a VPT, on the vision transformer."""
    root = tmp_path_factory.mktemp("learned")
    student = kd.load_vlm("emoji-student-vit", device="cpu")
    learners = {"coop": kd.CoOp(student), "vpt": kd.VPT(student)}
    for name, learner in learners.items():
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.add_(0.05)
        kd.save_learner(learner, root / f"{name}.safetensors")
        kd.export_classifier(learner, ["tennis", "joker", "ribbon", "bowling"], root / f"{name}-classifier.safetensors")
    return root, learners


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = cli.main(["inspect", *map(str, arguments), "--no-open"])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def data(page) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_two_models_and_a_labelled_folder(folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    status, out, err = run(capsys, folder, "--student", STUDENT, "--teacher", TEACHER, "--out", page, "--most", 4)
    assert status == 0 and "7 pictures" in out and f"written: {page}" in out, err
    assert "Left out: joker/broken.png cannot be read" in out
    assert str(folder) not in page.read_text(encoding="utf-8"), "a page that is sent does not tell where it was made"
    shown = data(page)
    assert (shown["pictures"], shown["names"], len(shown["shown"])) == (6, 3, 4) and shown["curves"]
    assert all(entry["label"] == entry["path"].split("/")[0] for entry in shown["shown"])
    teacher, student = kd.load_vlm(TEACHER), kd.load_vlm(STUDENT)
    images = [Image.open(path) for path in sorted(folder.rglob("*.png")) if path.name != "broken.png"]
    logits = [
        kd.logits(kd.encode_images(vlm, images), kd.encode_names(vlm, NAMES), vlm.scale) for vlm in (teacher, student)
    ]
    expected = kl_bits(*logits).sort(descending=True).values[:4].tolist()
    assert [entry["kl"][1] for entry in shown["shown"]] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", ["coop", "coop-classifier", "vpt", "vpt-classifier"])
def test_before_and_after_what_was_learned(folder, learned, tmp_path, capsys, kind):
    """Also where tokens among the patches were learned, so that the frozen tower's features do not serve."""
    root, learners = learned
    page = tmp_path / "page.html"
    status, out, err = run(
        capsys, folder, "--learned", root / f"{kind}.safetensors", "--teacher", TEACHER, "--out", page
    )
    assert status == 0 and "Pictures that the prompts were learned from may be among these." in out, err
    names = ["tennis", "joker", "ribbon", "bowling"] if "classifier" in kind else NAMES
    first = data(page)["shown"][0]
    (expected,) = learners[kind.split("-")[0]].predict([Image.open(folder / first["path"])], names, 1)
    assert first["top"][2] == expected[0][0] and first["confidence"][2] == pytest.approx(expected[0][1], abs=1e-3)


def test_without_names_the_teacher_picks_them(folder, tmp_path, capsys, monkeypatch):
    words = tmp_path / "words.txt"
    words.write_text("\n".join(["tennis", "joker", "bowling", "ship", "moon", "cheese", "clock", "fish"]))
    typed = ["--student", STUDENT, "--teacher", TEACHER, "--out", tmp_path / "page.html"]
    status, out, err = run(capsys, folder, "--dictionary", words, "--k", 5, *typed)
    assert status == 0 and "The teacher picked 5 names of a dictionary's 8; there are no labels." in out, err
    assert all(entry["label"] is None for entry in data(tmp_path / "page.html")["shown"])
    asked = []
    monkeypatch.setattr(inspect_folder, "load_dictionary", lambda source: asked.append(source) or ("moon", "cat"))
    assert run(capsys, folder, "--flat", *typed)[0] == 0 and asked == ["imagenet21k"]
    assert data(tmp_path / "page.html")["names"] == 2


def test_labels_are_the_subfolders_that_are_names(folder, tmp_path, capsys):
    for part, name in (("train", ""), ("test", "tennis"), ("test", "joker")):
        (tmp_path / part / name).mkdir(parents=True)
        for path in (folder / (name or "bowling")).glob("[0-9]*.png"):
            (tmp_path / part / name / path.name).write_bytes(path.read_bytes())
    typed = ["--student", STUDENT, "--teacher", TEACHER, "--out", tmp_path / "page.html", "--names", "Joker", "trophy"]
    status, out, err = run(capsys, tmp_path, *typed)
    assert status == 0 and "no class has their name: 'tennis'" in out, err
    labels = {entry["path"].rsplit("/", 1)[0]: entry["label"] for entry in data(tmp_path / "page.html")["shown"]}
    assert labels == {"train": None, "test/tennis": None, "test/joker": "Joker"}


@pytest.mark.parametrize("screen", [True, False])
def test_the_page_is_opened_where_there_is_a_screen(screen, tmp_path, monkeypatch, capsys):
    page, opened = tmp_path / "page.html", []
    page.touch()
    monkeypatch.setattr(inspect_folder, "inspect_folder", lambda *arguments: page)
    monkeypatch.setattr(cli.sys, "platform", "darwin" if screen else "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(cli.webbrowser, "open", lambda address: opened.append(address) or True)
    assert cli.main(["inspect", "folder"]) == 0
    assert opened == ([page.as_uri()] if screen else [])
    assert (f"open {page.as_uri()} in a browser" in capsys.readouterr().out) != screen


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("{tmp}/nowhere", "There is no folder {tmp}/nowhere"),
        ("{tmp}/broken --names a b", "None of the 1 pictures can be read. {tmp}/broken/a.png"),
        ("{folder} --teacher emoji-student-rn", "Teacher and student are both emoji-student-rn: give two different"),
        ("{folder} --names tennis", "'tennis' is the only name"),
        ("{folder} --names a b --dictionary imagenet21k", "Give names or a dictionary, not both"),
        ("{folder} --dictionary {tmp}/none.txt", "none.txt"),
        ("{folder} --k 1", "k is 1"),
        ("{folder} --most 0", "most is 0"),
        ("{folder} --out {tmp}/mine.html", "{tmp}/mine.html exists and is not a page of kdpl inspect"),
        ("{folder} --learned {tmp}/mine.html", "mine.html"),
        ("{folder} --learned {learned}/coop-classifier.safetensors --names a b", "has names of its own"),
        ("{folder} --teacher emoji-teacher-huge", "There is no model 'emoji-teacher-huge'"),
    ],
)
def test_refuses_in_one_sentence(folder, learned, tmp_path, capsys, arguments, words):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    places = {"tmp": tmp_path, "folder": folder, "learned": learned[0]}
    typed = arguments.format(**places).split()
    for option, value in (("--student", STUDENT), ("--teacher", TEACHER), ("--out", tmp_path / "page.html")):
        if option not in typed and not (option == "--student" and "--learned" in typed):
            typed += [option, value]
    status, _, err = run(capsys, *typed)
    assert status == 2 and err.startswith("kdpl: ") and words.format(**places) in err
    assert err.count("\n") == 1 and not (tmp_path / "page.html").exists()
