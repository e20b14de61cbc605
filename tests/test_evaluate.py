"""evaluate: tables worked by hand, published numbers, sets of known calibration, enumerated bootstraps."""

import doctest
import math

import numpy as np
import pytest
import torch

from kdpl_utils import evaluate
from kdpl_utils.evaluate import (
    accuracy,
    entropy,
    expected_calibration_error,
    harmonic_mean,
    per_class_accuracy,
    reliability_curve,
    selection_recall,
    top1_agreement,
)

# Five images, four classes. Top-1: 0 1 1 2 0, labels 0 1 2 2 2, so three of five are right; no image is of class 3.
PROBS = torch.tensor(
    [
        [0.500, 0.250, 0.125, 0.125],
        [0.000, 0.750, 0.250, 0.000],
        [0.250, 0.625, 0.125, 0.000],
        [0.000, 0.000, 1.000, 0.000],
        [0.875, 0.000, 0.125, 0.000],
    ]
)
LABELS = torch.tensor([0, 1, 2, 2, 2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_accuracies_by_hand(dtype):
    assert accuracy(PROBS.to(dtype), LABELS) == 0.6 and type(accuracy(PROBS, LABELS)) is float
    per_class = per_class_accuracy(PROBS.to(dtype), LABELS)
    assert per_class[:3].tolist() == pytest.approx([1, 1, 1 / 3]) and per_class[3].isnan() and per_class.shape == (4,)


@pytest.mark.parametrize(
    ("base", "novel", "h"), [(82.69, 63.22, 71.66), (82.28, 75.14, 78.55), (0.4, 0.4, 0.4), (0, 0, 0)]
)
def test_harmonic_mean_of_published_pairs(base, novel, h):
    assert harmonic_mean(base, novel) == pytest.approx(h, abs=5e-3)


def test_reliability_by_hand():
    """Four bins, closed above: 0.5 falls into the second, 0.75 and 0.625 into the third, 0.875 and 1 into the last."""
    confidence, hit, count = reliability_curve(PROBS, LABELS, bins=4)
    assert count.tolist() == [0, 1, 2, 2]
    assert confidence[1:].tolist() == [0.5, 0.6875, 0.9375] and hit[1:].tolist() == [1, 0.5, 0.5]
    assert confidence[0].isnan() and hit[0].isnan()
    by_hand = (1 * 0.5 + 2 * 0.1875 + 2 * 0.4375) / 5
    assert expected_calibration_error(PROBS, LABELS, bins=4) == pytest.approx(by_hand, abs=1e-12)
    assert expected_calibration_error(PROBS, LABELS, bins=1) == pytest.approx(abs(0.75 - 0.6), abs=1e-12)


def calibrated(n, c=6):
    """Probabilities and labels drawn from them: as calibrated as a set can be."""
    g = torch.Generator().manual_seed(0)
    probs = (torch.randn(n, c, generator=g) * 3).softmax(-1)
    return probs, torch.multinomial(probs, 1, generator=g)[:, 0]


def test_calibration_error_of_known_sets():
    probs, labels = calibrated(200_000)
    assert expected_calibration_error(probs, labels) < 0.005
    exact = torch.tensor([[0.75, 0.25]]).repeat(400, 1)
    assert expected_calibration_error(exact, (torch.arange(400) % 4 == 0).long()) == pytest.approx(0, abs=1e-12)
    confident = torch.tensor([[0.9, 0.1]]).repeat(10, 1)  # sure at 0.9, right in 6 of 10
    assert expected_calibration_error(confident, (torch.arange(10) >= 6).long()) == pytest.approx(0.3, abs=1e-7)
    sharpened = (probs.log() * 3).softmax(-1)
    gap = sharpened.max(-1).values.mean().item() - accuracy(sharpened, labels)  # over-confident in every bin
    assert gap > 0.1 and expected_calibration_error(sharpened, labels) == pytest.approx(gap, abs=0.005)


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_calibration_error_equals_a_loop_over_images(bins):
    probs, labels = calibrated(500)
    total = 0.0
    for m in range(bins):
        inside = [
            (max(p), float(p.index(max(p)) == y))
            for p, y in zip(probs.double().tolist(), labels.tolist(), strict=True)
            if m / bins < max(p) <= (m + 1) / bins
        ]
        total += abs(sum(c for c, _ in inside) - sum(h for _, h in inside)) / len(probs)
    assert expected_calibration_error(probs, labels, bins) == pytest.approx(total, abs=1e-12)
    if bins == 15:  # the usual number is the default
        assert expected_calibration_error(probs, labels) == pytest.approx(total, abs=1e-12)


def test_entropy_by_hand():
    # nats; 0 log 0 = 0
    table = [1.75 * math.log(2), 0.5623351, 0.9003, 0.0, 0.3767702]
    assert entropy(PROBS).tolist() == pytest.approx(table, abs=1e-4)
    assert entropy(torch.full((2, 7), 1 / 7)).tolist() == pytest.approx([math.log(7)] * 2, abs=1e-6)
    half = PROBS.softmax(-1).bfloat16()  # summed in float32 all the same
    assert entropy(half).dtype == torch.float32
    assert entropy(half).tolist() == pytest.approx((-half.double() * half.double().log()).sum(-1).tolist(), abs=1e-6)


def test_agreement_and_recall_by_hand():
    other = torch.nn.functional.one_hot(torch.tensor([0, 2, 1, 2, 3]), 4)
    assert top1_agreement(PROBS, PROBS * 3) == 1.0 and top1_agreement(PROBS, other.float()) == 0.6
    assert selection_recall(torch.tensor([7, 2, 9]), torch.tensor([2, 2, 2, 3, 9, 5])) == 0.5  # {2, 9} of {2, 3, 5, 9}


def test_noise_is_in_units_of_the_logits_own_deviation():
    t = 7 * torch.randn(400, 5, generator=torch.Generator().manual_seed(1)) + 3
    noise = evaluate.perturb(t, noise=0.5) - t
    assert noise.std().item() == pytest.approx(0.5 * t.std().item(), rel=0.05)
    epsilon = torch.randn(t.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise, 0.5 * t.std() * epsilon, atol=1e-4, rtol=1e-4)


def test_a_student_that_excludes_what_the_teacher_says_is_far_away():
    """Not NaN: infinitely many bits, or as many as a number holds; what the teacher excludes adds nothing."""
    far = evaluate.kl_bits(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -math.inf]]))
    assert far.item() > 1e20
    near = evaluate.kl_bits(torch.tensor([[0.0, -math.inf]]), torch.tensor([[0.0, -math.inf]]))
    assert near.item() == 0


def test_scores_that_rank_nothing_are_refused():
    """Each would silently give a number: the first class wins an argmax over NaN, a logit is taken for a confidence."""
    scores = torch.zeros(3, 4)
    labels = torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="1 of 3 images are not finite, of image 1"):
        accuracy(scores.index_fill(0, torch.tensor([1]), math.nan), labels)
    for wrong in (labels + 4, labels - 1):
        with pytest.raises(ValueError, match="0…3.*renumber"):
            per_class_accuracy(scores, wrong)
    with pytest.raises(ValueError, match="as many labels"):
        accuracy(scores, labels[:1])
    with pytest.raises(ValueError, match="as many labels"):  # PyTorch would broadcast them
        accuracy(scores, labels[:, None])
    with pytest.raises(ValueError, match="softmax"):
        expected_calibration_error(scores + 1, labels)


def test_doctests():
    assert doctest.testmod(evaluate) == (0, 2)


def test_kl_bits_against_the_definition():
    """In float64 NumPy, one picture at a time."""
    t, s = (torch.randn((5, 7), generator=torch.Generator().manual_seed(i)) * 8 for i in (0, 1))
    for temperature in (0.5, 1.0, 4.0):
        p, q = (np.exp(x.double().numpy() / temperature) for x in (t, s))
        p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
        expected = (p * np.log2(p / q)).sum(1)
        assert np.allclose(evaluate.kl_bits(t, s, temperature).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert evaluate.kl_bits(t, t + 3).abs().max() < 1e-5, "a constant changes no distribution"


def test_perturb():
    logits = torch.randn((200, 9), generator=torch.Generator().manual_seed(0))
    assert torch.equal(evaluate.perturb(logits), logits)
    assert torch.equal(evaluate.perturb(logits, 4.0), logits / 4)  # so that no top answer changes
    noisy = evaluate.perturb(logits, 1.0, 0.5, seed=3)
    assert torch.equal(noisy, evaluate.perturb(logits, 1.0, 0.5, seed=3)) and not torch.equal(noisy, logits)
    assert (noisy - logits).std().item() == pytest.approx(0.5 * logits.std().item(), rel=0.1)
    assert torch.equal(evaluate.perturb(logits, 2.0, 0.5, seed=3), noisy / 2), "noise first, then temperature"
