"""distill: losses against their definitions in float64 NumPy, class selection against brute force."""

import doctest
import math

import numpy as np
import pytest
import torch

from kdpl_utils import distill
from kdpl_utils.distill import forward_kl, mix_teachers, reverse_kl, select_classes, symmetric_kl

LOSSES = [forward_kl, reverse_kl, symmetric_kl]


def pair(b=6, c=9, gap=8.0, seed=0, dtype=torch.float64):
    """Teacher and student logits whose rows each span exactly ``gap``."""
    x = torch.rand(2, b, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = (x - x.amin(-1, keepdim=True)) / (x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)) * gap
    return x[0].to(dtype), x[1].to(dtype)


def by_definition(loss, t, s, **kwargs):
    """The textbook sums, without any log-softmax: exp(300) still fits a float64."""
    p, q = (np.exp(x.double().numpy()) for x in (t, s))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    forward, reverse = (p * np.log(p / q)).sum(1).mean(), (q * np.log(q / p)).sum(1).mean()
    alpha = {forward_kl: 1.0, reverse_kl: 0.0, symmetric_kl: kwargs.get("alpha", 0.5)}[loss]
    return alpha * forward + (1 - alpha) * reverse


def gradient(loss, t, s, **kwargs):
    s = s.clone().requires_grad_()
    return torch.autograd.grad(loss(t, s, **kwargs), s)[0]


@pytest.mark.parametrize("gap", [0.1, 8.0, 100.0, 300.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_equals_the_definition(loss, gap):
    t, s = pair(gap=gap)
    assert loss(t, s).item() == pytest.approx(by_definition(loss, t, s), rel=1e-11)
    assert loss(t.float(), s.float()).item() == pytest.approx(
        by_definition(loss, t.float(), s.float()), rel=3e-5, abs=1e-6
    )


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_weighs_the_teacher_first_direction(alpha):
    t, s = pair()
    assert symmetric_kl(t, s, alpha).item() == pytest.approx(by_definition(symmetric_kl, t, s, alpha=alpha), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("gap", [8.0, 300.0])
def test_half_precision(loss, dtype, gap):
    t, s = pair(gap=gap, dtype=dtype)
    value, grad = loss(t, s), gradient(loss, t, s)
    assert value.dtype == torch.float32 and grad.dtype == dtype and grad.isfinite().all()
    assert value.item() == pytest.approx(by_definition(loss, t, s), rel=1e-5)
    exact = gradient(loss, t.double(), s.double())
    assert torch.allclose(grad.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_gradients_are_those_on_paper(alpha):
    t, s = pair()
    p, q = t.softmax(-1), s.softmax(-1)
    a = q.log() - p.log()
    forward, reverse = (q - p) / len(s), q * (a - (q * a).sum(-1, keepdim=True)) / len(s)
    assert torch.allclose(gradient(forward_kl, t, s), forward, atol=1e-12)
    assert torch.allclose(gradient(reverse_kl, t, s), reverse, atol=1e-12)
    assert torch.allclose(
        gradient(symmetric_kl, t, s, alpha=alpha), alpha * forward + (1 - alpha) * reverse, atol=1e-12
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_the_teacher_gets_no_gradient(loss):
    t, s = (x.requires_grad_() for x in pair())
    loss(t, s).backward()
    assert t.grad is None and s.grad.abs().max() > 0


def test_symmetric_at_one_half_only():
    t, s = pair()
    assert symmetric_kl(t, s).item() == pytest.approx(symmetric_kl(s, t).item(), rel=1e-12)
    assert abs(symmetric_kl(t, s, 0.7) - symmetric_kl(s, t, 0.7)) > 1e-3


@pytest.mark.parametrize("loss", LOSSES)
def test_zero_iff_equal_up_to_a_constant_per_image(loss):
    t, s = pair()
    shift = torch.arange(len(t), dtype=t.dtype)[:, None] * 7
    assert loss(t, t + shift).item() == pytest.approx(0, abs=1e-12)
    assert loss(t + shift, s - shift).item() == pytest.approx(loss(t, s).item(), rel=1e-11)
    nudged = t.clone()
    nudged[2, 3] += 0.01  # one logit of one image
    assert loss(t, nudged) > 1e-8
    assert all(loss(*pair(gap=gap, seed=seed)) >= 0 for gap in (0.01, 5, 300) for seed in range(20))


@pytest.mark.parametrize("loss", LOSSES)
def test_order_of_classes_and_selecting_all_change_nothing(loss):
    t, s = pair()
    some = torch.randperm(t.shape[1], generator=torch.Generator().manual_seed(1))
    for order in (some, select_classes(t, t.shape[1])):
        assert loss(t[:, order], s[:, order]).item() == pytest.approx(loss(t, s).item(), rel=1e-12)
        reordered = gradient(lambda t, s, o=order: loss(t[:, o], s[:, o]), t, s)
        assert torch.allclose(reordered, gradient(loss, t, s), atol=1e-14)


def test_select_equals_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(200):
        b, c = rng.integers(1, 7), rng.integers(1, 12)
        k, logits = int(rng.integers(1, c + 1)), rng.normal(0, rng.choice([0.1, 1.0, 4.0]), (b, c))
        mean = [0.0] * c
        for row in logits:
            total = sum(math.exp(x) for x in row)
            mean = [m + math.exp(x) / total / b for m, x in zip(mean, row, strict=True)]
        expected = sorted(range(c), key=lambda i: -mean[i])[:k]
        assert select_classes(torch.from_numpy(logits), k).tolist() == expected


def test_select_averages_probabilities_not_logits():
    logits = torch.tensor([[11.0, 0.0, 9.0], [-30.0, 0.0, -1.0]])  # class 2 is second for both images
    assert select_classes(logits, 1).item() == 0
    assert logits.mean(0).argmax().item() == 2


def test_select_in_half_precision_separates_what_half_sums_do_not():
    """4,096 images: a float16 mean of these probabilities would round the lead of class 1 away."""
    probs = torch.tensor([0.5, 0.5001]).repeat(4096, 1)
    logits = torch.cat([torch.zeros(4096, 1), torch.full((4096, 1), 4e-4)], 1).half()
    assert probs.half()[0, 0] == probs.half()[0, 1] and select_classes(logits.requires_grad_(), 1).item() == 1


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (4,)], ids=str)
def test_shapes_that_would_broadcast_are_refused(loss, shape):
    with pytest.raises(ValueError, match="same images and the same classes"):
        loss(torch.zeros(shape), torch.zeros(3, 4))


def test_a_name_that_is_masked_adds_nothing():
    """A teacher that was not to give a name (−∞): the KL is that of the other names, and so is the gradient."""
    teacher = torch.tensor([[1.0, 2.0, -math.inf], [0.5, -math.inf, 0.0]])
    z = torch.tensor([[0.5, 0.1, -math.inf], [0.3, -math.inf, 0.7]], requires_grad=True)
    expected = 0.0
    for row, names in ((0, [0, 1]), (1, [0, 2])):
        t, s = teacher[row, names].softmax(-1), z[row, names].softmax(-1)
        expected = expected + (t * (t / s).log()).sum() / 2
    for loss in (forward_kl(teacher, z), symmetric_kl(teacher, z, alpha=1.0)):
        torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(reverse_kl(z.detach(), teacher), expected.detach())
    (found,) = torch.autograd.grad(forward_kl(teacher, z), z)
    assert found[0].sum().item() == pytest.approx(0, abs=1e-6) and found[1, 1] == 0 and found.isfinite().all()


def test_teachers_are_mixed_as_probabilities():
    """The log of the mean, so that it is normalised; one teacher is itself."""
    logits = [5 * torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    mixed = mix_teachers(logits)
    expected = sum(z.softmax(-1) for z in logits) / 3
    torch.testing.assert_close(mixed.exp(), expected)
    torch.testing.assert_close(mix_teachers(logits[:1]).exp(), logits[0].softmax(-1))


def test_doctests():
    failed, attempted = doctest.testmod(distill)
    assert not failed and attempted
