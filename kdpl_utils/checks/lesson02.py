"""Lesson 02: how far confidence and accuracy lie apart."""

import torch

from ..evaluate import expected_calibration_error as right
from ..evaluate import reliability_curve
from .engine import Exercise
from .outcomes import draw


def probe(seed, n, n_classes, bins):
    """Return a model that is underconfident where it says class 0, overconfident elsewhere, and certain four times."""
    probs = (2 * draw(seed, n, n_classes)).softmax(1)
    probs[:4] = torch.eye(n_classes)[1]
    others = 1 + draw(seed + 1, n).mul(7).long().abs() % (n_classes - 1)
    return probs, torch.where(probs.argmax(1) == 0, 0, others), bins


def of_groups(probs, labels, confidence, groups):
    """Return Σ over groups of pictures of their share times |accuracy − confidence|."""
    gap = (probs.argmax(1) == labels).float() - confidence
    return sum(gap[groups == group].sum().abs() for group in groups.unique()) / len(gap)


def unweighted(probs, labels, bins=15):
    confidence, accuracy, _ = reliability_curve(probs, labels, bins)
    return (accuracy - confidence).abs().nanmean()


def of_true_class(probs, labels, bins=15):
    confidence = probs.gather(1, labels[:, None])[:, 0]
    return of_groups(probs, labels, confidence, (confidence * bins).ceil())


expected_calibration_error = Exercise(
    "expected_calibration_error",
    right,
    lambda: [probe(0, 60, 4, 15), probe(2, 90, 3, 5)],
    {
        "bins by label": lambda probs, labels, bins=15: of_groups(probs, labels, probs.amax(1), labels),
        "unweighted mean": unweighted,
        "confidence of the true class": of_true_class,
    },
)
