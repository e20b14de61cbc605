"""The README's examples run as they stand, and its three losses do what it says of them."""

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch

import kdpl_utils as kd
from kdpl_utils.apps.cli import parser
from kdpl_utils.protocol import COLUMNS

README = Path("README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
EXAMPLE = Path("examples/three_losses.py").read_text(encoding="utf-8")


def test_the_readme_shows_the_example_as_it_is():
    assert CODE[0] == EXAMPLE
    assert len(EXAMPLE.splitlines()) <= 60


@pytest.fixture(scope="module")
def example() -> dict:
    """What the example leaves behind; its recipe is shortened, nothing else."""
    quick = EXAMPLE.replace("kd.Recipe(**world.recipe)", "kd.Recipe(epochs=2, lr=0.05)")
    assert quick != EXAMPLE
    scope: dict = {"__name__": "__main__"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(quick, "examples/three_losses.py", "exec"), scope)
    scope["printed"] = printed.getvalue()
    return scope


LOSSES = ("coop", "kdpl", "kdpl_class_agnostic")


def test_the_example_prints_a_row_for_each_loss(example):
    rows = example["printed"].splitlines()
    assert [row.split()[0] for row in rows] == list(LOSSES)
    assert all(f"'{column}'" in row for row in rows for column in COLUMNS)


@pytest.mark.parametrize("name", LOSSES)
def test_the_losses_of_the_example_teach(example, name):
    prompt = kd.PromptLearner(example["student"])
    batch = torch.arange(32)
    example[name](prompt, batch).backward()
    assert prompt.ctx.grad.abs().max() > 0
    learned, _ = kd.learn(example["student"], example[name], example["labels"], 0, kd.Recipe(epochs=3, lr=0.05))
    # On the same pictures before and after: a batch's loss without class names depends on the names that it gets.
    batches = torch.randperm(len(example["labels"]), generator=torch.Generator().manual_seed(0)).split(32)[:8]
    with torch.no_grad():
        before = sum(example[name](kd.PromptLearner(example["student"]), rows) for rows in batches)
        after = sum(example[name](learned, rows) for rows in batches)
    assert after < before


def test_the_losses_of_the_example_need_what_they_say(example, monkeypatch):
    prompt = example["prompt"]
    batch = torch.arange(32)
    monkeypatch.setitem(example, "labels", None)
    with pytest.raises(TypeError):
        example["coop"](prompt, batch)
    example["kdpl"](prompt, batch)
    monkeypatch.setitem(example, "class_names", None)
    with pytest.raises(ValueError, match="give a list of names"):
        example["kdpl"](prompt, batch)
    example["kdpl_class_agnostic"](prompt, batch)


def test_the_learners_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(CODE[1], "README.md", "exec"), scope)
    assert (tmp_path / "learned.safetensors").stat().st_size < 100_000
    assert not torch.equal(scope["learner"].visual[0], scope["kd"].VPT(scope["student"]).visual[0])


def as_in_readme(docstring: str) -> str:
    return docstring.replace("``", "`")


def entries(text: str, pattern: str) -> dict[str, str]:
    """name → sentence, of a list or table; a sentence goes on over indented lines."""
    return {name: " ".join(sentence.split()) for name, sentence in re.findall(pattern, text, re.MULTILINE)}


def test_the_reading_order_is_the_packages():
    in_package = entries(as_in_readme(kd.__doc__), r"^\d\. `(\w+)`: (.+(?:\n +.+)*)")
    in_readme = entries(README, r"^\d\. \[`(\w+)`\]\(kdpl_utils/\w+\.py\): (.+(?:\n +.+)*)")
    assert list(in_readme.items()) == list(in_package.items())
    assert set(in_package) == {path.stem for path in Path("kdpl_utils").glob("*.py")} - {"__init__"}


def test_the_rooms_are_the_packages():
    in_package = entries(as_in_readme(kd.__doc__), r"^\* `(\w+)`: (.+)$")
    in_readme = entries(README, r"^\| \[`(\w+)`\]\(kdpl_utils/\w+\) \| (.+) \|$")
    assert list(in_readme.items()) == list(in_package.items())
    assert set(in_package) == {path.parent.name for path in Path("kdpl_utils").glob("*/__init__.py")}


def test_every_folder_of_the_repository_has_a_row():
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout.split("\0")
    folders = {path.split("/")[0] for path in tracked if "/" in path and not path.startswith(".")}
    assert folders <= {"kdpl_utils", *re.findall(r"^\| \[`(\w+)/`\]", README, re.MULTILINE)}


def test_every_command_is_one():
    lines = re.findall(r"^kdpl (.*?)(?: +#.*)?$", README, re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        parser().parse_args(shlex.split(line))


def differences_shown():
    """{(student, supervision): {column: (difference, low, high)}} of the tables that a run wrote into the README."""
    shown = README.split("<!-- results: start -->")[1].split("<!-- results: end -->")[0]
    found = {}
    for student, text in re.findall(r"^(emoji-student-\w+), differences.*?\n\n((?:\|.*\n)+)", shown, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
        for row in rows:
            cells = dict(zip(head, row, strict=True))
            numbers = {column: re.findall(r"[+-][\d.]+", cell) for column, cell in cells.items() if "[" in cell}
            found[student, cells["supervision"]] = {column: [*map(float, n)] for column, n in numbers.items()}
    return found


def test_what_the_readme_says_of_its_tables_is_what_they_say():
    """Its two sentences above the tables; another run that says otherwise needs other sentences."""
    sentences = README.split("<!-- results: start -->")[0].split("On base classes")[1]
    assert "labels and KDPL lift both students" in sentences and "class-agnostic KDPL one\nof them" in sentences
    assert "Novel classes and colour are lost by all, so that H is nowhere above zero-shot" in sentences
    found = differences_shown()
    assert len(found) == 6
    lifted = [who for who, row in found.items() if row["base − zero-shot"][1] > 0]
    assert sorted(mode for _, mode in lifted) == ["kdpl", "kdpl", "kdpl-ca", "labels", "labels"]
    assert all(row["base − labels"][2] > 0 for (_, mode), row in found.items() if mode == "kdpl")  # no less than labels
    assert all(row["novel − zero-shot"][2] < 0 for row in found.values())
    assert all(row["H − zero-shot"][1] <= 0 for row in found.values())
