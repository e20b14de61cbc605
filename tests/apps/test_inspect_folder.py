"""kdpl inspect on small folders: which names and labels it takes, what it compares, and what it says when it cannot."""

import html
import json
import re
import warnings

import pytest
import torch
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.apps import cli, inspect_folder
from kdpl_utils.evaluate import kl_bits
from kdpl_utils.worlds import photos

STUDENT, TEACHER = "emoji-student-rn", "emoji-teacher-small"
NAMES = ["bowling", "joker", "tennis"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures of each of three classes, in subfolders; one is broken behind its first bytes."""
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
    """Files of a CoOp, as a learner and as a classifier of four names, and of a VPT."""
    root = tmp_path_factory.mktemp("learned")
    student = kd.load_vlm(STUDENT)
    coop = kd.CoOp(student)
    with torch.no_grad():
        for parameter in coop.parameters():
            parameter.add_(0.05)
    kd.save_learner(coop, root / "coop.safetensors")
    kd.export_classifier(coop, ["tennis", "joker", "ribbon", "bowling"], root / "classifier.safetensors")
    return root, coop


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = cli.main(["inspect", *map(str, arguments), "--no-open"])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def data(page) -> list[dict]:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_two_models_and_a_labelled_folder(folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    status, out, err = run(capsys, folder, "--student", STUDENT, "--teacher", TEACHER, "--out", page, "--most", 4)
    assert status == 0 and "6 pictures" in out and f"written: {page}" in out
    assert f"{folder.name}/joker/broken.png cannot be read" in out
    assert str(folder) not in page.read_text(encoding="utf-8"), "a page that is sent does not tell where it was made"
    assert "cut" not in out + err, "nothing is cut, so nothing is said of it"
    entries, text = data(page), html.unescape(page.read_text(encoding="utf-8"))
    assert len(entries) == 4 and "6 pictures, 3 names." in text and "Reliability diagram" in text
    teacher, student = kd.load_vlm(TEACHER), kd.load_vlm(STUDENT)
    images = [Image.open(path) for path in sorted(folder.rglob("*.png")) if path.name != "broken.png"]
    logits = [
        kd.logits(kd.encode_images(vlm, images), kd.encode_names(vlm, NAMES), vlm.scale) for vlm in (teacher, student)
    ]
    expected = kl_bits(*logits).sort(descending=True).values[:4].tolist()
    assert [entry["kl"][1] for entry in entries] == pytest.approx(expected, abs=1e-3)


def test_one_broken_picture_does_not_cost_the_others(folder, tmp_path, monkeypatch, capsys):
    """Of very many pictures none is read before it is needed; then it is too late to stop."""
    monkeypatch.setattr(photos, "CHECKED", 0)
    page = tmp_path / "page.html"
    status, out, _ = run(capsys, folder, "--student", STUDENT, "--teacher", TEACHER, "--out", page)
    assert status == 0 and "7 pictures" in out and "6 pictures, 3 names." in page.read_text(encoding="utf-8")
    assert "Left out, as they cannot be read: 'joker/broken.png'." in out
    for path in (folder / "joker").glob("[0-9]*.png"):
        (tmp_path / path.name).write_bytes((folder / "joker" / "broken.png").read_bytes())
    status, _, err = run(capsys, tmp_path, "--student", STUDENT, "--teacher", TEACHER, "--names", "a", "b")
    assert status == 2 and "None of the 2 pictures" in err


def test_names_choose_labels_by_the_subfolders_names(folder, tmp_path, capsys):
    """Whatever the order of the names; a subfolder that is called like none of them has no label."""
    status, out, _ = run(
        capsys, folder, "--student", STUDENT, "--teacher", TEACHER, "--names", "Tennis", "trophy", "bowling",
        "--out", tmp_path / "page.html",
    )  # fmt: skip
    assert status == 0 and "No label for pictures in subfolders that are called like none of the names: 'joker'." in out
    labelled = {entry["path"].split("/")[0] for entry in data(tmp_path / "page.html") if entry["right"]}
    assert labelled == {"tennis", "bowling"}


def test_before_and_after_what_was_learned(folder, learned, tmp_path, capsys):
    root, coop = learned
    files = {}
    for kind in ("coop", "classifier"):
        files[kind] = tmp_path / f"{kind}.html"
        status, out, err = run(
            capsys, folder, "--learned", root / f"{kind}.safetensors", "--teacher", TEACHER, "--out", files[kind]
        )
        assert status == 0, err
        assert "Pictures that the prompts were learned from may be among these." in out
        assert "student after" in files[kind].read_text(encoding="utf-8")
    assert "6 pictures, 4 names." in files["classifier"].read_text(encoding="utf-8")
    first = data(files["coop"])[0]
    image = Image.open(folder / first["path"])
    assert first["confidence"][2] == pytest.approx(coop.predict([image], NAMES, 1)[0][0][1], abs=1e-3)


def test_without_names_the_teacher_chooses_them(folder, tmp_path, capsys):
    words = tmp_path / "words.txt"
    words.write_text("\n".join(["tennis", "joker", "bowling", "ship", "moon", "cheese", "clock", "fish"]))
    status, out, err = run(
        capsys, folder, "--student", STUDENT, "--teacher", TEACHER, "--dictionary", words, "--k", 5,
        "--out", tmp_path / "page.html",
    )  # fmt: skip
    assert status == 0, err
    assert "the 5 that the teacher finds most probable in these pictures, of the 8 of a dictionary" in out
    assert all(entry["right"] == "" for entry in data(tmp_path / "page.html"))


def test_pictures_beside_the_labelled_ones_have_no_label(folder, tmp_path):
    for part, name in (("train", ""), ("test", "tennis"), ("test", "joker")):
        (tmp_path / part / name).mkdir(parents=True)
        for path in (folder / (name or "bowling")).glob("[0-9]*.png"):
            (tmp_path / part / name / path.name).write_bytes(path.read_bytes())
    pictures = inspect_folder.FolderPictures(tmp_path)
    labels, said = pictures.labels(["joker", "tennis"])
    assert sorted(labels.tolist()) == [-1, -1, 0, 0, 1, 1] and said == []
    assert [pictures.folders[i] for i in range(6) if labels[i] < 0] == ["", ""]
    assert inspect_folder.FolderPictures(tmp_path, labelled=False).folders is None


def test_pictures_without_subfolders_ask_a_dictionary(folder, tmp_path, monkeypatch):
    (tmp_path / "flat").mkdir()
    for path in folder.glob("tennis/*.png"):
        (tmp_path / "flat" / path.name).write_bytes(path.read_bytes())
    asked = []
    monkeypatch.setattr(inspect_folder, "load_dictionary", lambda source, root: asked.append(source) or ("moon", "cat"))
    page = inspect_folder.inspect_folder(tmp_path / "flat", tmp_path, (TEACHER, None), (STUDENT, None))
    assert asked == ["imagenet21k"] and "2 pictures, 2 names." in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("screen", [True, False])
def test_the_page_is_opened_where_there_is_a_screen(screen, tmp_path, monkeypatch, capsys):
    page, opened = tmp_path / "page.html", []
    page.touch()
    monkeypatch.setattr(inspect_folder, "inspect_folder", lambda *arguments, **options: page)
    monkeypatch.setattr(cli.sys, "platform", "darwin" if screen else "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(cli.webbrowser, "open", lambda address: opened.append(address) or True)
    assert cli.main(["inspect", "folder"]) == 0
    assert opened == ([page.as_uri()] if screen else [])
    assert (f"open {page.as_uri()} in a browser" in capsys.readouterr().out) != screen
    assert cli.main(["inspect", "folder", "--no-open"]) == 0 and len(opened) == screen


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("{tmp}/nowhere", "There is no folder {tmp}/nowhere"),
        ("{tmp}/empty", "{tmp}/empty has no pictures that can be read"),
        ("{tmp}/broken --names a b", "{tmp}/broken has no pictures that can be read"),
        ("{folder} --teacher emoji-student-rn", "Teacher and student are both emoji-student-rn: give two different"),
        ("{folder} --names-file {tmp}/none.txt", "There is no names file {tmp}/none.txt"),
        ("{folder} --names tennis", "'tennis' alone is no choice: give at least two names"),
        ("{folder} --names tennis tennis", "The class name 'tennis' occurs twice"),
        ("{folder} --names a b --dictionary imagenet21k", "Give names or a dictionary to choose them from, not both"),
        ("{folder} --dictionary {tmp}/none.txt", "There is no dictionary '{tmp}/none.txt'"),
        ("{folder} --k 1", "k is 1: give a whole number of at least 2."),
        ("{folder} --most 0", "most is 0: give a whole number of at least 1."),
        ("{folder} --out {tmp}/mine.html", "{tmp}/mine.html is there and no page of kdpl inspect"),
        ("{folder} --learned {tmp}/none.safetensors", "There is no file {tmp}/none.safetensors"),
        ("{folder} --learned {tmp}/mine.html", "{tmp}/mine.html is not a safetensors file"),
        ("{folder} --learned {learned}/classifier.safetensors --names a b", "has class names of its own"),
        ("{folder} --teacher emoji-teacher-huge", "There is no model 'emoji-teacher-huge'"),
    ],
)
def test_refuses_in_one_sentence(folder, learned, tmp_path, capsys, arguments, words):
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    broken = (folder / "joker" / "broken.png").read_bytes()
    for name in ("a.png", "b.png"):
        (tmp_path / "broken" / name).write_bytes(broken)
    places = {"tmp": tmp_path, "folder": folder, "learned": learned[0]}
    typed = arguments.format(**places).split()
    if "--learned" not in typed:
        typed += ["--student", STUDENT]
    if "--teacher" not in typed:
        typed += ["--teacher", TEACHER]
    if "--out" not in typed:
        typed += ["--out", str(tmp_path / "page.html")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status, _, err = run(capsys, *typed)
    assert status == 2 and err.startswith("kdpl inspect: ") and words.format(**places) in err
    assert err.count("\n") == 1 and not (tmp_path / "page.html").exists()


def test_flat_pictures_have_no_labels_and_that_is_said(folder, tmp_path):
    for path in folder.glob("tennis/*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    labels, said = inspect_folder.FolderPictures(tmp_path).labels(NAMES)
    assert labels.tolist() == [-1, -1] and said == ["The pictures do not lie in subfolders, so there are no labels."]


@pytest.mark.parametrize("kind", [kd.CoOp, kd.VPT], ids=lambda kind: kind.__name__)
def test_a_learned_classifier_answers_as_its_learner(kind, folder, tmp_path):
    """Also where vectors among the patches were learned, so that the frozen tower's features do not serve."""
    student = kd.load_vlm("emoji-student-vit", device="cpu")
    learner = kind(student)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.05)
    file = kd.export_classifier(learner, NAMES, tmp_path / "classifier.safetensors")
    pictures = [Image.open(path) for path in sorted(folder.glob("tennis/*.png"))]
    pixels = kd.Pixels(student, pictures)
    found = inspect_folder._learned_logits(
        kd.load_classifier(file, student), NAMES, kd.encode_images(student, pictures), pixels
    )
    torch.testing.assert_close(found, learner(pixels[:], NAMES).detach(), atol=1e-4, rtol=1e-4)
