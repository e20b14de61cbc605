"""What supervises a step: the right rows, the right names beside the right columns."""

import functools

import pytest
import torch
from torch.nn import functional as F

import kdpl_utils as kd
from kdpl_utils.supervision import pseudo_labels

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


def test_the_hard_teacher_is_its_first_answer(teacher_logits, student_logits):
    """Not the student's, and not a distribution: the two answer differently here."""
    first = torch.tensor([max(range(3), key=lambda c: teacher_logits[row, c].item()) for row in (4, 1)])
    assert first.tolist() != student_logits.argmax(-1).tolist()
    names, loss = kd.from_hard_teacher(teacher_logits, NAMES)(BATCH)
    assert names == NAMES
    torch.testing.assert_close(loss(student_logits), F.cross_entropy(student_logits, first))


def test_pseudo_labels_are_the_most_confident_of_each_name():
    """By probability, not by logit: the fourth row has the highest logit and is the least sure."""
    z = torch.tensor([[2.0, 0, 0], [3.0, 0, 0], [1.0, 0, 0], [9.0, 8.9, 8.9], [0, 2.0, 0], [0, 0, 0.1]])
    assert pseudo_labels(z, 2).tolist() == [0, 0, -1, -1, 1, 2]
    assert pseudo_labels(z, 1).tolist() == [-1, 0, -1, -1, 1, 2]
    with pytest.raises(ValueError, match="at least one picture"):
        pseudo_labels(z, 0)


def test_pictures_without_a_pseudo_label_teach_nothing(student_logits):
    """The loss is of the student's answers before training, whatever it answers now."""
    before = torch.tensor([[0, 5.0, 0], [0, 4.0, 0], [0, 3.0, 0], [1.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0]])
    z = student_logits.clone().requires_grad_()
    names, loss = kd.from_pseudo_labels(before, NAMES, k=2)(BATCH)  # row 4 is only the fourth best of its name
    assert names == NAMES
    torch.testing.assert_close(loss(z), F.cross_entropy(student_logits[1:], torch.tensor([1])))
    loss(z).backward()
    assert z.grad[0].abs().max() == 0 and z.grad[1].abs().max() > 0
    _, nothing = kd.from_pseudo_labels(before, NAMES, k=2)(torch.tensor([2, 4]))
    value = nothing(z)
    assert value.item() == 0 and value.requires_grad


def test_the_loss_of_pseudo_labels_is_a_mean_over_those_that_have_one():
    """Three of four pictures, that of the first name among them."""
    before = torch.tensor([[5.0, 0, 0], [0, 4.0, 0], [0, 0, 3.0], [0, 3.0, 0]])
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(5))
    _, loss = kd.from_pseudo_labels(before, NAMES, k=1)(torch.arange(4))
    torch.testing.assert_close(loss(z), F.cross_entropy(z[:3], torch.tensor([0, 1, 2])))


def test_sixteen_pictures_of_a_name_unless_said_otherwise():
    before = torch.tensor([[3.0, 0.0, 0.0]]).repeat(20, 1) + torch.arange(20)[:, None] * torch.tensor([0.1, 0, 0])
    z = torch.randn(20, 3, generator=torch.Generator().manual_seed(6))
    _, loss = kd.from_pseudo_labels(before, NAMES)(torch.arange(20))
    torch.testing.assert_close(loss(z), F.cross_entropy(z[4:], torch.zeros(16, dtype=torch.long)))


def test_a_label_that_nobody_knows_may_be_anything(teacher_logits, student_logits):
    known = torch.tensor([True, True, False, False, False, False])
    labels = torch.tensor([0, 1, -1, 99, -1, -1])
    _, loss = kd.from_both(labels, known, teacher_logits, NAMES)(BATCH)
    _, distilled = kd.from_teacher(teacher_logits, NAMES)(BATCH)
    expected = distilled(student_logits) + F.cross_entropy(student_logits[1:], torch.tensor([1]))
    torch.testing.assert_close(loss(student_logits), expected)


@pytest.mark.parametrize("known", [torch.ones(6), torch.ones(5, dtype=torch.bool)], ids=["numbers", "too few"])
def test_known_is_a_boolean_for_each_picture(teacher_logits, known):
    with pytest.raises(ValueError, match="^known is .*give 6 booleans, true for a picture whose label is known"):
        kd.from_both(LABELS, known, teacher_logits, NAMES)


@pytest.mark.parametrize("shape", [(), (3,), (6, 4), (0, 3), (2, 3, 3)], ids=str)
def test_logits_have_a_row_for_each_picture_and_a_column_for_each_name(shape):
    for supervise in (
        kd.from_teacher, kd.from_hard_teacher, kd.from_uniform_teacher,
        functools.partial(kd.from_shuffled_teacher, seed=0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"The teacher's logits are .* there are 3 names: give \(N, 3\)"):
            supervise(torch.zeros(shape), NAMES)
    with pytest.raises(ValueError, match="The student's logits are"):
        kd.from_pseudo_labels(torch.zeros(shape), NAMES)


@pytest.mark.parametrize("supervise", [kd.from_dictionary, functools.partial(kd.from_random_names, seed=0)])
def test_of_a_dictionary_two_names_or_more_are_chosen(supervise):
    names, _ = supervise(torch.zeros(2, 2), ["a", "b"], 2)(torch.tensor([0]))
    assert sorted(names) == ["a", "b"]
    for k in (1, 3):
        with pytest.raises(ValueError, match=f"k = {k}|k must|k is"):
            supervise(torch.zeros(2, 2), ["a", "b"], k)
    with pytest.raises(ValueError, match="'a' is the only class name"):
        supervise(torch.zeros(2, 1), ["a"], 2)


def test_two_names_are_enough_and_one_is_not():
    names, loss = kd.from_labels(torch.tensor([0, 1]), ["a", "b"])(torch.tensor([0, 1]))
    assert names == ["a", "b"] and loss(torch.zeros(2, 2)).item() == pytest.approx(torch.tensor(2.0).log().item())
    with pytest.raises(ValueError, match="'a' is the only class name, so every answer is right"):
        kd.from_labels(torch.tensor([0, 0]), ["a"])


def test_the_shuffled_teacher_gives_each_picture_the_answers_to_another(student_logits):
    """The same rows in another order: nothing of the teacher is lost but which picture it spoke of."""
    teacher_logits = 3 * torch.randn(40, 3, generator=torch.Generator().manual_seed(2))
    everything = torch.arange(40)
    z = student_logits[:1].expand(40, 3)
    losses = {}
    for seed in (1, 2):
        names, loss = kd.from_shuffled_teacher(teacher_logits, NAMES, seed)(everything)
        assert names == NAMES
        torch.testing.assert_close(loss(z), symmetric(teacher_logits, z))  # a mean over all: the order is not seen
        _, of_two = kd.from_shuffled_teacher(teacher_logits, NAMES, seed)(BATCH)
        _, again = kd.from_shuffled_teacher(teacher_logits, NAMES, seed)(BATCH)
        losses[seed] = of_two(student_logits)
        assert again(student_logits) == losses[seed] != symmetric(teacher_logits[BATCH], student_logits)
    assert losses[1] != losses[2]


def test_the_uniform_teacher_says_nothing(teacher_logits, student_logits):
    names, loss = kd.from_uniform_teacher(teacher_logits, NAMES)(BATCH)
    assert names == NAMES
    torch.testing.assert_close(loss(student_logits), symmetric(torch.zeros(2, 3), student_logits))
    assert loss(torch.zeros(2, 3)).item() == pytest.approx(0, abs=1e-7)


def test_random_names_stand_beside_their_own_columns_and_hang_on_batch_and_seed():
    dictionary = [f"word {i}" for i in range(30)]
    teacher_logits = torch.randn(6, 30, generator=torch.Generator().manual_seed(3))
    z = torch.randn(2, 4, generator=torch.Generator().manual_seed(4))
    supervise = kd.from_random_names(teacher_logits, dictionary, 4, seed=7)
    names, loss = supervise(BATCH)
    columns = [dictionary.index(name) for name in names]
    assert len(set(columns)) == 4
    torch.testing.assert_close(loss(z), symmetric(teacher_logits[BATCH][:, columns], z))
    assert supervise(BATCH)[0] == names  # what was stopped goes on with the same names
    assert supervise(torch.tensor([0, 1]))[0] != names
    assert kd.from_random_names(teacher_logits, dictionary, 4, seed=8)(BATCH)[0] != names


@pytest.mark.parametrize("seed", ["x", 1.5, None], ids=str)
def test_a_seed_that_is_none_is_refused_before_anything_is_learned(teacher_logits, seed):
    for supervise in (kd.from_shuffled_teacher, functools.partial(kd.from_random_names, k=2)):
        with pytest.raises(ValueError, match="seed"):
            supervise(teacher_logits, NAMES, seed=seed)


def test_labels_are_one_for_each_picture():
    known = torch.tensor([True, False, True])
    with pytest.raises(ValueError, match="There are 2 labels for 3 pictures: give one for each."):
        kd.from_both(torch.tensor([0, 1]), known, torch.zeros(3, 2), ["a", "b"])
