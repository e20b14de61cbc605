"""What supervises a step: the right rows, the right names beside the right columns."""

import pytest
import torch
from torch.nn import functional as F

import kdpl_utils as kd

NAMES = ["sushi", "hot dog", "ramen"]
BATCH = torch.tensor([4, 1])
LABELS = torch.tensor([0, 1, 2, 0, 2, 1])


@pytest.fixture
def teacher_logits():
    return 3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def student_logits():
    return torch.randn(2, 3, generator=torch.Generator().manual_seed(1))


def symmetric(target, z):
    """Half of both directions of the KL, from the definition, in probabilities; a mean over the pictures."""
    t, s = target.softmax(-1), z.softmax(-1)
    forward = (t * (t / s).log()).sum(-1)
    reverse = (s * (s / t).log()).sum(-1)
    return ((forward + reverse) / 2).mean()


def test_labels_of_the_batch(student_logits):
    names, loss = kd.from_labels(LABELS, NAMES)(BATCH)
    assert names == NAMES
    torch.testing.assert_close(loss(student_logits), F.cross_entropy(student_logits, torch.tensor([2, 1])))


def test_teacher_rows_of_the_batch(teacher_logits, student_logits):
    names, loss = kd.from_teacher(teacher_logits, NAMES)(BATCH)
    assert names == NAMES
    torch.testing.assert_close(loss(student_logits), symmetric(teacher_logits[[4, 1]], student_logits))


def test_dictionary_names_stand_beside_their_own_columns(student_logits):
    logits = torch.full((6, 5), -4.0)
    logits[:, 3], logits[:, 0], logits[:, 2] = 3.0, 2.0, 1.0
    dictionary = ["a", "b", "c", "d", "e"]
    names, loss = kd.from_dictionary(logits, dictionary, 3)(BATCH)
    assert names == ["d", "a", "c"]
    _, of_known = kd.from_teacher(logits[:, [3, 0, 2]], names)(BATCH)
    torch.testing.assert_close(loss(student_logits), of_known(student_logits))


def test_both_adds_the_labels_that_are_known(teacher_logits, student_logits):
    known = torch.tensor([False, True, False, False, False, False])
    _, distilled = kd.from_teacher(teacher_logits, NAMES)(BATCH)
    _, loss = kd.from_both(LABELS, known, teacher_logits, NAMES)(BATCH)
    expected = distilled(student_logits) + F.cross_entropy(student_logits[1:], torch.tensor([1]))
    torch.testing.assert_close(loss(student_logits), expected)
    _, without = kd.from_both(LABELS, torch.zeros(6, dtype=torch.bool), teacher_logits, NAMES)(BATCH)
    torch.testing.assert_close(without(student_logits), distilled(student_logits))
