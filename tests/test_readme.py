"""The README's example runs as it stands, and its three losses do what it says of them."""

import re
from pathlib import Path

import torch


def test_the_example_runs():
    code = re.search(r"```python\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    code = code.replace("kd.Recipe(**world.recipe)", "kd.Recipe(epochs=3, lr=0.05)")  # the same, shorter
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
