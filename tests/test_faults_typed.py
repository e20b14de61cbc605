"""What somebody types at a console of their own, and what of theirs lies where a command writes."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
from faults import Fault, pattern
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.apps import adapt
from kdpl_utils.apps.adapt import adapt_folder
from kdpl_utils.apps.cli import main
from kdpl_utils.apps.outputs import check_replaceable
from kdpl_utils.experiments import lab
from kdpl_utils.experiments.plan import plan
from kdpl_utils.learners.classifier import export_classifier

MODELS = ["--student", "emoji-student-rn", "--teacher", "emoji-teacher-small"]


def some_pictures(folder: Path, n: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", (32, 32), (40 * i, 80, 120)).save(folder / f"{i}.png")
    return folder


@dataclass
class Desk:
    """A folder in which the user is, with pictures, a list of words, prompts, a classifier, and a home of its own."""

    folder: Path

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    def adapt(self, *more: str, out: str = "out", names: tuple[str, ...] = ("red", "blue")) -> int:
        named = ["--names", *names] if names else []
        epoch = ["--epochs", "1", "--dictionary", "words.txt"]
        return main(["adapt", "pictures", "--out", out, *MODELS, *epoch, *named, *more])


@pytest.fixture(scope="module")
def student():
    return kd.load_vlm("emoji-student-rn", device="cpu")


@pytest.fixture
def desk(tmp_path, monkeypatch, student):
    folder = tmp_path / "here"
    some_pictures(folder / "pictures", 3)
    (folder / "words.txt").write_text("red\nblue\ngreen\n")
    kd.save_learner(kd.CoOp(student), folder / "learned.safetensors")
    export_classifier(kd.CoOp(student), ["red", "blue"], folder / "classifier.safetensors")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(folder)
    return Desk(folder)


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- wishes that cannot be -------------------------------------------------------------------------------------------

ADAPT = ["adapt", "pictures", "--out", "out", *MODELS]
INSPECT = ["inspect", "pictures", *MODELS, "--no-open", "--names", "a", "b"]
EMPTY = "A path is empty (is a variable of the shell not set?): name a file or a folder."
TYPED = {
    "adapt: no folder": ([*ADAPT[:1], "", *ADAPT[2:], "--names", "a", "b"], EMPTY),
    "adapt: nowhere to write": ([*ADAPT[:3], "", *ADAPT[4:], "--names", "a", "b"], EMPTY),
    "adapt: one name in all pieces": ([*ADAPT, "--names", "a", "--names", "A"], "CLIP reads the class names 'a' and"),
    "adapt: a share of labels that is nobody's": (
        [*ADAPT[:1], "classes", *ADAPT[2:], "--labels", "0.01"],
        "The share 0.01 of 2 pictures is none of them: give a larger share of labels.",
    ),
    "adapt: one word to choose from": (
        [*ADAPT, "--dictionary", "word.txt"],
        "The dictionary has 1 name to choose from: give at least two, better thousands.",
    ),
    "adapt: a list in YAML": ([*ADAPT, "--names-file", "names.yaml"], "names.yaml is no list of names"),
    "predict: no file": (["predict", "", "pictures"], EMPTY),
    "predict: one name": (
        ["predict", "learned.safetensors", "pictures", "--names", "cat"],
        "'cat' alone is no choice: give at least two names.",
    ),
    "inspect: nowhere to write": ([*INSPECT, "--out", ""], EMPTY),
    "inspect: a pipe": ([*INSPECT, "--out", "pipe"], "pipe is no regular file: give another place with --out."),
    "inspect: no file of prompts": ([*INSPECT, "--learned", ""], EMPTY),
    "reproduce: no data sets": (["reproduce", "--root", "", "--world", "dtd", "--out", "out"], EMPTY),
    "reproduce: halves of three classes": (
        ["reproduce", "--world", "three", "--learner", "coop", "--mode", "kdpl", "--out", "out"],
        "three has 3 classes, and each half of a base-to-novel table needs two: give four or more",
    ),
    "reproduce: K of one": (
        ["reproduce", "--learner", "coop", "--mode", "kdpl-ca", "--k", "1", "--out", "out"],
        "k is 1: give at least 2 names to choose among for a batch, or 0 for the usual number.",
    ),
    "reproduce: a share of labels that is nobody's": (
        ["reproduce", "--learner", "coop", "--mode", "kdpl", "--shots", "1", "--labelled", "0.001", "--out", "out"],
        "The share 0.001 of … pictures is none of them",
    ),
}
NOTHING_WRITTEN = "all files are as they were, nothing is written and no training begins"
COMMANDS = {f"typed, {case}": Fault(*row, NOTHING_WRITTEN) for case, row in TYPED.items()}


@pytest.mark.parametrize("case", COMMANDS)
@pytest.mark.filterwarnings("ignore")
def test_a_wish_that_cannot_be_is_one_sentence(case, desk, monkeypatch, capsys):
    monkeypatch.setattr(lab, "train_learner", lambda *_, **__: pytest.fail("a training began"))
    for name in ("red", "blue"):
        some_pictures(desk.folder / "classes" / name, 2)
    for name in ("red", "blue", "green"):
        some_pictures(desk.folder / "three" / name, 4)
    (desk.folder / "word.txt").write_text("red\n")
    (desk.folder / "names.yaml").write_text("- red\n- blue\n")
    os.mkfifo(desk.folder / "pipe")
    before = content(desk.folder)
    assert main(COMMANDS[case].given) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "each class is cut" not in line]
    assert len(said) == 1 and re.search(pattern(COMMANDS[case].sentence), said[0])
    assert content(desk.folder) == before


SLIPS = {  # arguments of adapt_folder
    f"adapt_folder: {what}": Fault(given, sentence, NOTHING_WRITTEN)
    for what, given, sentence in (
        ("nothing as a folder", {"folder": None}, "None is no path: give a text or a pathlib.Path."),
        ("nothing to write to", {"out": None}, "None is no path"),
        ("K of one", {"k": 1, "mode": "kdpl-ca"}, "k is 1: give at least 2 names to choose among"),
        ("a share in words", {"labels": "half"}, "the share of labels is 'half': give a number of at least 0"),
    )
}


@pytest.mark.parametrize("case", SLIPS)
def test_what_adapt_folder_cannot_use_is_one_sentence(case, desk, monkeypatch):
    monkeypatch.setattr(lab, "train_learner", lambda *_, **__: pytest.fail("a training began"))
    models = {"student": ("emoji-student-rn", None), "teacher": ("emoji-teacher-small", None)}
    given = {"folder": "pictures", "out": "out", "classnames": ["red", "blue"], "dictionary": "words.txt", **models}
    before = content(desk.folder)
    with pytest.raises(ValueError, match=pattern(SLIPS[case].sentence)):
        adapt_folder(**{**given, **SLIPS[case].given})
    assert content(desk.folder) == before


# --- what is typed in pieces, or between commas ----------------------------------------------------------------------

LISTS = {
    f"names typed as {' '.join(typed)}": Fault(typed, (), " | ".join(names))
    for typed, names in (
        (["--names", "a", "b", "--names", "c"], ["a", "b", "c"]),
        (["--names", "banana,", "beer", "mug,", "bottle"], ["banana", "beer mug", "bottle"]),
        (["--names", "banana,", "beer mug,", "bottle,"], ["banana", "beer mug", "bottle"]),
        (["--names", "shirt, blue", "shirt, red"], ["shirt, blue", "shirt, red"]),
    )
}


@pytest.mark.parametrize("case", LISTS)
def test_names_arrive_as_they_were_meant(case, monkeypatch):
    arrived = []

    def adapt_folder(folder, out, names, *_, **__):
        arrived.extend(names)
        raise ValueError("enough")

    monkeypatch.setattr(adapt, "adapt_folder", adapt_folder)
    assert main(["adapt", "folder", "--out", "out", *LISTS[case].given]) == 2
    assert " | ".join(arrived) == LISTS[case].kept


@pytest.mark.parametrize(
    "twice",
    [
        {"learners": ["coop", "coop"]},
        {"modes": ["kdpl", "kdpl"]},
        {"seeds": [1, 1]},
        {"shots": [2, 2]},
        {"world": Path("emoji")},
    ],
)
def test_a_run_that_is_asked_for_twice_is_one_run(twice):
    """Counted twice, it would have no row in its table."""
    once = {"world": "emoji", "learners": ["coop"], "modes": ["kdpl"], "seeds": [1], "shots": [2]}
    assert plan("few-shot", **once) == plan("few-shot", **{**once, **twice})
    targets = {"targets": ["emoji/objects"]}, {"targets": ["emoji/objects", "emoji/objects"]}
    first, second = (plan("cross-dataset", **once, **target) for target in targets)
    assert first == second


def test_what_no_learner_can_do_is_said():
    with pytest.warns(
        UserWarning, match="linear in the mode kdpl-ca is left out. The learner 'linear' has a row for each"
    ):
        plan("base-to-novel", "emoji", ["coop", "linear"], ["kdpl-ca"], [1])


# --- files of the user's ---------------------------------------------------------------------------------------------

STAYS = "the file is as the user left it"
THEIRS = {
    f"{name} with {what}": Fault(
        (name, text), f"{name} is there and was not written by this command, or was changed", STAYS
    )
    for name, what, text in (
        (".gitignore", "the folder of features among others", "*.pyc\ncache/\nsecret\n"),
        ("README.md", "a heading like a card's, and changes", "changed"),
    )
}


@pytest.mark.parametrize("case", THEIRS)
def test_a_file_of_the_users_is_not_replaced(case, desk, capsys):
    name, text = THEIRS[case].given
    assert desk.adapt() == 0 and desk.adapt() == 0, "its own files are replaced"
    path = desk.folder / "out" / name
    path.write_text(path.read_text() + "\nMy notes of a week.\n" if text == "changed" else text)
    before = content(desk.folder / "out")
    capsys.readouterr()
    assert desk.adapt(names=("red", "green")) == 2
    assert re.search(pattern(THEIRS[case].sentence), capsys.readouterr().err)
    assert content(desk.folder / "out") == before


def test_a_card_of_an_earlier_version_is_replaced(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: other\n---\n\n# Prompts learned from `a`\n")
    check_replaceable(tmp_path)


def test_classifiers_of_earlier_prompts_do_not_stay(desk, capsys):
    """They would be taken for those of the card beside them."""
    assert desk.adapt() == 0
    (desk.folder / "out" / "classifier.onnx").write_bytes(b"of the first run")
    assert desk.adapt(names=("red", "green")) == 0
    assert not (desk.folder / "out" / "classifier.onnx").exists()
    assert "removed: out/classifier.onnx, which was of earlier prompts" in capsys.readouterr().out
    assert desk.adapt("--mode", "kdpl-ca", names=()) == 0
    assert sorted(p.name for p in (desk.folder / "out").glob("*.*")) == [
        ".gitignore",
        "README.md",
        "learned.safetensors",
    ]


def test_a_tilde_that_no_shell_has_replaced_is_the_home_folder(desk):
    assert desk.adapt(out="~/learned") == 0
    assert (Path.home() / "learned" / "README.md").is_file() and not (desk.folder / "~").exists()
    assert main(["predict", "~/learned/classifier.safetensors", "pictures"]) == 0
    assert main([*INSPECT, "--out", "~/page.html"]) == 0
    assert (Path.home() / "page.html").is_file() and not (desk.folder / "~").exists()


@pytest.mark.parametrize("option", [[], ["--solved"], ["--instructor"]])
def test_a_notebook_that_was_worked_in_is_not_written_over(option, tmp_path, monkeypatch):
    """The learner's own answers are in it."""
    spec = importlib.util.spec_from_file_location(
        "build", Path(__file__).resolve().parents[1] / "notebooks" / "build.py"
    )
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    monkeypatch.setattr(build, "HERE", tmp_path)
    (tmp_path / "source").mkdir()
    for name in ("01_one", "02_two"):
        (tmp_path / "source" / f"{name}.py").write_text(f"# %% {name[:2]}-a (code)\nprint(1)\n")
    monkeypatch.setattr(sys, "argv", ["build.py", *option, *[str(tmp_path)] * len(option)])
    build.main()
    notebook = nbformat.read(tmp_path / "02_two.ipynb", as_version=4)
    notebook.cells[0].source, notebook.cells[0].execution_count = "print('my answer')", 1
    nbformat.write(notebook, tmp_path / "02_two.ipynb")
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match="Somebody has worked in 02_two in .*: move what is to be kept away"):
        build.main()
    assert content(tmp_path) == before


# --- folders in which not all is opened ------------------------------------------------------------------------------


def test_predict_says_what_it_does_not_open(desk, capsys):
    (desk.folder / "pictures" / "a.heic").write_bytes(b"x")
    (desk.folder / "pictures" / "gone.png").symlink_to("nowhere.png")
    assert main(["predict", "classifier.safetensors", "pictures"]) == 0
    printed, said = capsys.readouterr()
    assert len(printed.splitlines()) == 3 and len(said.splitlines()) == 2
    assert "kdpl: pictures: gone.png is a link to what is not there." in said
    assert (
        "kdpl: pictures: 1 files are not opened: 1 .heic; if these are pictures, convert them to JPEG or PNG." in said
    )


def test_what_a_command_wrote_among_the_pictures_is_no_lost_picture(desk, capsys):
    assert desk.adapt(out="pictures") == 0 and desk.adapt(out="pictures") == 0
    capsys.readouterr()
    assert main(["predict", "pictures/classifier.safetensors", "pictures"]) == 0
    printed, said = capsys.readouterr()
    assert len(printed.splitlines()) == 3 and said == ""


@pytest.mark.parametrize("bad", ["empty", "nowhere", "", "~nobody-of-this-name/a"])
def test_a_folder_that_cannot_be_named_costs_no_other(bad, desk, capsys):
    (desk.folder / "empty").mkdir()
    assert main(["predict", "classifier.safetensors", "pictures", bad, "pictures"]) == 2
    printed, said = capsys.readouterr()
    assert len(printed.splitlines()) == 6 and len(said.splitlines()) == 1


# --- consoles --------------------------------------------------------------------------------------------------------

KDPL = [sys.executable, "-c", "import sys; from kdpl_utils.apps.cli import main; sys.exit(main())"]
STREAMS = {
    "nobody reads": Fault("worlds | true", (), "status 141, as of a program that the pipe ended"),
    "no output": Fault("worlds >&-", (), "status 0"),
    "no place for errors": Fault("predict nowhere a 2>&-", (), "status 2"),
    "neither": Fault("worlds >&- 2>&-", (), "status 0"),
    "a console of ASCII": Fault("predict nöwhere a", "There is no file n", "status 2"),
}


@pytest.mark.parametrize("case", STREAMS)
def test_a_console_may_be_closed_or_poor(case):
    command, shell = " ".join(f"'{word}'" for word in KDPL), STREAMS[case].given
    ascii_only = {"PYTHONIOENCODING": "ascii"} if "ASCII" in case else {}
    environment = {**os.environ, **ascii_only, "PYTHONPATH": str(Path(kd.__file__).parents[1])}
    script = f"set -o pipefail; {command} {shell}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert f"status {done.returncode}" in STREAMS[case].kept, done.stderr
    assert all(sentence in done.stderr for sentence in STREAMS[case].sentences)
    assert len(done.stderr.splitlines()) == len(STREAMS[case].sentences)


def test_what_a_file_is_called_does_nothing_to_the_console(desk, capsys):
    for name in ("\x1b[31mred\x07.jpg", "new\nline.jpg"):
        (desk.folder / "pictures" / name).write_bytes(b"no picture")
    assert desk.adapt() == 0
    assert main(["predict", "classifier.safetensors", "pictures"]) == 2
    printed, said = capsys.readouterr()
    assert not any(ord(letter) < 32 and letter not in "\n\r" for letter in printed + said)
    sentences = [line for line in said.splitlines() if line.strip() and "step/s" not in line]  # but for progress
    assert all(line.startswith("kdpl") for line in sentences), said


def test_a_very_large_picture_is_named_without_a_word(desk, capsys):
    """Pillow warns of it, and names no file."""
    Image.new("1", (10_000, 10_000)).save(desk.folder / "large.png")
    assert main(["predict", "classifier.safetensors", "large.png"]) == 0
    printed, said = capsys.readouterr()
    assert printed.startswith("large.png: ") and said == ""


def test_somebody_without_a_home_can_learn(desk, monkeypatch):
    """As in a container that is run under a number without a name: nothing that is asked for lies at home."""
    monkeypatch.delenv("KDPL_DATA", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert desk.adapt() == 0
    with pytest.raises(FileNotFoundError, match="~/.cache/kdpl begins with ~ and no home folder is known"):
        kd.load_world("dtd")


# --- truths and numbers of other libraries ---------------------------------------------------------------------------


@pytest.mark.parametrize("no", [False, 0, 0.0, np.False_])
def test_a_truth_is_a_truth_whoever_gives_it(no, tmp_path):
    for name in ("cat", "dog"):
        some_pictures(tmp_path / name, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat = kd.folder_world(tmp_path, dictionary=["a"], labelled=no)
        assert len(flat.train) == 4 and flat.classnames == ()
        assert kd.folder_world(tmp_path, dictionary=["a"], labelled=np.True_).classnames == ("cat", "dog")


def test_names_by_folder_may_be_numbers(tmp_path):
    for name in ("0", "1"):
        some_pictures(tmp_path / name, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert kd.folder_world(tmp_path, {1: "dog", 0: "cat"}, dictionary=["a"]).classnames == ("cat", "dog")


PAGE = {
    "Commands of a stranger": COMMANDS,
    "Arguments of adapt_folder": SLIPS,
    "Names in pieces": LISTS,
    "Files of the user's where a command writes": THEIRS,
    "Consoles": STREAMS,
}
