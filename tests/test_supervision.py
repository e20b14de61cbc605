"""What supervises: the right rows, the right names beside the right columns. Each loss is called as ``fit`` does."""

import pytest
import torch
from torch.nn import functional as F

import kdpl_utils as kd
from kdpl_utils.experiments.controls import from_pseudo_labels, from_random_names, pseudo_labels

NAMES = ["sushi", "hot dog", "ramen"]
BATCH = torch.tensor([4, 1])
LABELS = torch.tensor([0, 1, 2, 0, 2, 1])
INPUTS = torch.randn(6, 8, generator=torch.Generator().manual_seed(7))


class Given:
    """A learner whose logits are given; it keeps what it was asked."""

    def __init__(self, logits):
        self.logits = logits

    def loss(self, images, names, of_logits):
        self.images = images
        self.names = names
        return of_logits(self.logits)


@pytest.fixture
def learner():
    return Given(torch.randn(2, 3, generator=torch.Generator().manual_seed(1)))


@pytest.fixture
def teacher_logits():
    return 3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def symmetric(target, z):
    """Half of both directions of the KL, from the definition, in probabilities; a mean over the pictures."""
    t = target.softmax(-1)
    s = z.softmax(-1)
    forward = (t * (t / s).log()).sum(-1)
    reverse = (s * (s / t).log()).sum(-1)
    return ((forward + reverse) / 2).mean()


def test_labels_of_the_batch(learner):
    value = kd.from_labels(INPUTS, LABELS, NAMES)(learner, BATCH)
    torch.testing.assert_close(value, F.cross_entropy(learner.logits, torch.tensor([2, 1])))
    assert learner.names == NAMES and torch.equal(learner.images, INPUTS[[4, 1]])


def test_teacher_rows_of_the_batch(learner, teacher_logits):
    value = kd.from_teacher(INPUTS, teacher_logits, NAMES)(learner, BATCH)
    torch.testing.assert_close(value, symmetric(teacher_logits[[4, 1]], learner.logits))
    assert learner.names == NAMES and torch.equal(learner.images, INPUTS[[4, 1]])


def test_dictionary_names_stand_beside_their_own_columns(learner):
    logits = torch.full((6, 5), -4.0)
    logits[:, [3, 0, 2]] = torch.tensor([3.0, 2.0, 1.0])
    value = kd.from_dictionary(INPUTS, logits, ["a", "b", "c", "d", "e"], 3)(learner, BATCH)
    assert learner.names == ["d", "a", "c"]
    torch.testing.assert_close(value, symmetric(logits[BATCH][:, [3, 0, 2]], learner.logits))


def test_both_adds_the_labels_that_are_known(learner, teacher_logits):
    """A label that nobody knows may be anything; a batch without any label is KDPL alone."""
    known = torch.tensor([False, True, False, False, False, False])
    labels = torch.where(known, LABELS, -1)
    distilled = symmetric(teacher_logits[BATCH], learner.logits)
    value = kd.from_both(INPUTS, labels, known, teacher_logits, NAMES)(learner, BATCH)
    torch.testing.assert_close(value, distilled + F.cross_entropy(learner.logits[1:], torch.tensor([1])))
    value = kd.from_both(INPUTS, labels, known & False, teacher_logits, NAMES)(learner, BATCH)
    torch.testing.assert_close(value, distilled)


def test_pseudo_labels_are_the_most_confident_of_each_name():
    """By probability, not by logit: the fourth row has the highest logit and is the least confident."""
    z = torch.tensor([[2.0, 0, 0], [3.0, 0, 0], [1.0, 0, 0], [9.0, 8.9, 8.9], [0, 2.0, 0], [0, 0, 0.1]])
    assert pseudo_labels(z, 2).tolist() == [0, 0, -1, -1, 1, 2]
    assert pseudo_labels(z, 1).tolist() == [-1, 0, -1, -1, 1, 2]


def test_pictures_without_a_pseudo_label_teach_nothing(learner):
    """The labels are of the student before training, whatever it predicts now."""
    before = torch.tensor([[0, 5.0, 0], [0, 4.0, 0], [0, 3.0, 0], [1.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0]])
    learner.logits.requires_grad_()
    value = from_pseudo_labels(INPUTS, before, NAMES, k=2)(learner, BATCH)  # row 4 is only the fourth best of its name
    torch.testing.assert_close(value, F.cross_entropy(learner.logits[1:], torch.tensor([1])))
    value.backward()
    assert learner.logits.grad[0].abs().max() == 0 and learner.logits.grad[1].abs().max() > 0
    nothing = from_pseudo_labels(INPUTS, before, NAMES, k=2)(learner, torch.tensor([2, 4]))
    assert nothing.item() == 0 and nothing.requires_grad


def test_random_names_stand_beside_their_own_columns_and_depend_on_batch_and_seed():
    dictionary = [f"word {i}" for i in range(30)]
    logits = torch.randn(6, 30, generator=torch.Generator().manual_seed(3))
    learner = Given(torch.randn(2, 4, generator=torch.Generator().manual_seed(4)))
    drawn = {}
    for seed, batch in ((7, BATCH), (8, BATCH), (7, torch.tensor([0, 1]))):
        value = from_random_names(INPUTS, logits, dictionary, 4, seed)(learner, batch)
        columns = [dictionary.index(name) for name in learner.names]
        torch.testing.assert_close(value, symmetric(logits[batch][:, columns], learner.logits))
        drawn[seed, tuple(batch.tolist())] = tuple(columns)
    assert len(set(drawn.values())) == 3 and all(len(set(columns)) == 4 for columns in drawn.values())
    from_random_names(INPUTS, logits, dictionary, 4, 7)(learner, BATCH)
    assert tuple(dictionary.index(name) for name in learner.names) == drawn[7, (4, 1)]


def test_other_pictures_and_labels_outside_the_names_are_refused(teacher_logits):
    for supervise in (
        lambda: kd.from_labels(INPUTS[:5], LABELS, NAMES),
        lambda: kd.from_teacher(INPUTS[:5], teacher_logits, NAMES),
        lambda: kd.from_dictionary(INPUTS[:5], teacher_logits, NAMES, 2),
    ):
        with pytest.raises(ValueError, match="covers 6 images, but 5 were given"):
            supervise()
    for labels in (LABELS + 1, LABELS - 1):
        with pytest.raises(ValueError, match="there are 3 class names"):
            kd.from_labels(INPUTS, labels, NAMES)


def test_logits_of_another_dictionary_are_refused(teacher_logits):
    with pytest.raises(ValueError, match="3 columns for 4 names"):
        kd.from_dictionary(INPUTS, teacher_logits, [*NAMES, "pizza"], 2)


def test_known_labels_may_be_numbers(learner, teacher_logits):
    """As indices they would silently mean pictures 0 and 1."""
    known = torch.tensor([0, 1, 0, 0, 0, 0])
    losses = [kd.from_both(INPUTS, LABELS, mask, teacher_logits, NAMES)(learner, BATCH) for mask in (known, known > 0)]
    assert losses[0] == losses[1]
