"""The README's examples run as they stand, and its three losses do what it says of them."""

import re
import shlex
from pathlib import Path

import torch

from kdpl_utils.apps.cli import parser

README = Path("README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_runs():
    code = CODE[0].replace("kd.Recipe(**world.recipe)", "kd.Recipe(epochs=3, lr=0.05)")  # the same, shorter
    scope: dict = {}
    exec(compile(code, "README.md", "exec"), scope)
    losses = scope["history"].loss
    tenth = len(losses) // 10
    assert sum(losses[-tenth:]) < sum(losses[:tenth])
    batch = torch.arange(32)
    for name in ("coop", "kdpl", "kdpl_class_agnostic"):
        scope["prompt"].zero_grad()
        scope[name](batch).backward()
        assert scope["prompt"].ctx.grad.abs().max() > 0, name
    scope["labels"] = None  # needed by CoOp alone
    scope["kdpl"](batch), scope["kdpl_class_agnostic"](batch)
    scope["names"] = None
    scope["kdpl_class_agnostic"](batch)


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
