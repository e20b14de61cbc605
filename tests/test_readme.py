"""The README's examples run as they stand, and its three losses do what it says of them."""

import contextlib
import io
import re
import shlex
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
    _, history = kd.learn(example["student"], example[name], example["labels"], 0, kd.Recipe(epochs=3, lr=0.05))
    tenth = len(history.loss) // 10
    assert sum(history.loss[-tenth:]) < sum(history.loss[:tenth])


def test_the_losses_of_the_example_need_what_they_say(example, monkeypatch):
    prompt = example["prompt"]
    batch = torch.arange(32)
    monkeypatch.setitem(example, "labels", None)
    with pytest.raises(TypeError):
        example["coop"](prompt, batch)
    example["kdpl"](prompt, batch)
    monkeypatch.setitem(example, "class_names", None)
    with pytest.raises(TypeError):
        example["kdpl"](prompt, batch)
    example["kdpl_class_agnostic"](prompt, batch)


def test_the_learners_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(CODE[1], "README.md", "exec"), scope)
    assert (tmp_path / "learned.safetensors").stat().st_size < 100_000
    assert not torch.equal(scope["learner"].visual[0], scope["kd"].VPT(scope["student"]).visual[0])


def test_every_command_is_one():
    lines = re.findall(r"^kdpl (.*?)(?: +#.*)?$", README, re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        parser().parse_args(shlex.split(line))
