"""One training step: an update, or a sentence and the parameters as they were."""

import math

import pytest
import torch
from torch import nn

from kdpl_utils.support.guard import guarded_step

HALF = torch.ones(2, dtype=torch.float16)


def step(loss, start=1.0, seen=None, number=3, rate=0.1):
    """One step of SGD from (start, start); the loss is a function of the parameter."""
    param = nn.Parameter(torch.full((2,), start))
    optimizer = torch.optim.SGD([param], lr=rate)
    try:
        return guarded_step(optimizer, [param], loss(param), number, seen), param
    except FloatingPointError:
        assert torch.equal(param, torch.full((2,), start)) or math.isnan(start)
        raise


def test_a_step_goes_down_the_gradient():
    value, param = step(lambda p: p.sum())
    assert value == 2 and torch.allclose(param, torch.full((2,), 0.9))


@pytest.mark.parametrize(
    "loss, sentence",
    [
        (lambda p: 2 * p, r"must be one number .*, not of shape \(2,\)"),
        (lambda p: torch.tensor(1.0), "depends on nothing learnable"),
        (lambda p: nn.Parameter(torch.ones(2)).sum(), "depends on nothing learnable"),
    ],
)
def test_what_is_no_loss_is_said(loss, sentence):
    with pytest.raises(ValueError, match=sentence):
        step(loss)


def infinite(p):
    return p.sum() * math.inf


CAUSES = {
    "the prompt": (infinite, {"start": math.nan}, "a prompt that was not finite before training"),
    "a picture": (infinite, {"seen": {"pictures": [torch.ones(1), torch.tensor([math.nan])]}}, "pictures or features"),
    "half precision": (infinite, {"seen": ("rows", [HALF])}, "half precision, whose numbers end at 65,504"),
    "the target": (infinite, {"number": 0, "seen": torch.arange(3)}, "a target or a model that is not finite"),
    "the step": (infinite, {"seen": {"rows": torch.ones(2)}}, "too long a step: lower the learning rate"),
    "the gradient": (lambda p: (p - 1).square().sum().sqrt(), {}, "The loss .0. or its gradient is not finite"),
    "the update": (lambda p: 1e38 * p[0], {"rate": 10.0}, "The parameters behind the update"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_the_likeliest_cause_is_named(case):
    loss, given, sentence = CAUSES[case]
    with pytest.raises(FloatingPointError, match=sentence) as caught:
        step(loss, **given)
    assert "the parameters are as before it" in str(caught.value) and "\n" not in str(caught.value)
