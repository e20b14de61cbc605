"""The README's examples, commands and links work as they stand."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kdpl_utils as kd
from kdpl_utils.protocol import COLUMNS

README = Path("README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
EXAMPLE = Path("examples/three_losses.py").read_text(encoding="utf-8")
LOSSES = ("coop", "kdpl", "kdpl_class_agnostic")


def test_the_readme_shows_the_example_as_it_is():
    assert CODE[0] == EXAMPLE


@pytest.fixture(scope="module")
def example() -> dict:
    """What the example leaves behind; its recipe is shortened, nothing else."""
    quick = EXAMPLE.replace("kd.Recipe(**world.recipe)", "kd.Recipe(epochs=3, lr=0.05)")
    assert quick != EXAMPLE
    scope: dict = {"__name__": "__main__"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(quick, "examples/three_losses.py", "exec"), scope)
    scope["printed"] = printed.getvalue()
    return scope


def test_the_example_prints_a_row_for_each_loss(example):
    rows = example["printed"].splitlines()
    assert [row.split()[0] for row in rows] == list(LOSSES)
    assert all(f"'{column}'" in row for row in rows for column in COLUMNS)


def test_the_losses_of_the_example_teach_with_what_they_say(example, monkeypatch):
    """Each loss of a fixed batch falls after a step; CoOp needs labels, KDPL names, class-agnostic KDPL neither."""
    batch = torch.arange(32)
    for name in LOSSES:
        prompt = kd.PromptLearner(example["student"])
        before = example[name](prompt, batch)
        before.backward()
        with torch.no_grad():
            prompt.ctx -= 0.01 * prompt.ctx.grad / prompt.ctx.grad.norm()
            assert example[name](prompt, batch) < before
    monkeypatch.setitem(example, "labels", None)
    with pytest.raises(TypeError):
        example["coop"](prompt, batch)
    example["kdpl"](prompt, batch)
    monkeypatch.setitem(example, "class_names", None)
    with pytest.raises((TypeError, ValueError)):
        example["kdpl"](prompt, batch)
    example["kdpl_class_agnostic"](prompt, batch)


def test_the_learners_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(CODE[1], "README.md", "exec"), {})
    assert (tmp_path / "learned.safetensors").stat().st_size < 100_000


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links and [link for link in links if not Path(link).exists()] == []
    notebooks = re.findall(r"\(notebooks/(\w+\.ipynb)\)", README)
    assert notebooks == sorted(path.name for path in Path("notebooks").glob("*.ipynb"))


def test_every_folder_has_a_row():
    tracked = subprocess.check_output(["git", "ls-files"], text=True).splitlines()
    folders = {path.split("/")[0] for path in tracked if "/" in path and path[0] != "." and Path(path).exists()}
    assert folders <= {"kdpl_utils", *re.findall(r"^\| \[`(\w+)/`\]", README, re.MULTILINE)}
    rooms = {path.parent.name for path in Path("kdpl_utils").glob("*/__init__.py")}
    assert rooms == set(re.findall(r"^\| \[`(\w+)`\]\(kdpl_utils/\w+\)", README, re.MULTILINE))


def test_every_flag_of_a_command_is_in_its_help():
    lines = [shlex.split(line) for line in re.findall(r"^kdpl (.*?)(?: +#.*)?$", README, re.MULTILINE)]
    for command in {line[0] for line in lines}:
        ask = [sys.executable, "-c", f"from kdpl_utils.apps.cli import main; main(['{command}', '--help'])"]
        told = subprocess.run(ask, capture_output=True, text=True).stdout
        flags = {word for line in lines if line[0] == command for word in line if word.startswith("--")}
        assert command in told and [flag for flag in flags if flag not in told] == []
