"""The numbers of the tables, recomputed one picture at a time."""

import re
from dataclasses import replace

import pytest
import torch

import kdpl_utils as kd
from kdpl_utils.protocol import COLUMNS


@pytest.fixture(scope="module")
def world():
    """Four classes and a handful of pictures of the smallest group."""
    full = kd.load_world("emoji/activities")

    def few(split):
        return kd.Split(split.images, split.labels).subset((split.labels < 4).nonzero().flatten()[:24])

    parts = {"train": few(full.train), "test": few(full.test), "shifts": {n: few(s) for n, s in full.shifts.items()}}
    base, novel = kd.base_novel(4)
    return replace(full, classnames=full.classnames[:4], base=base, novel=novel, **parts)


@pytest.fixture(scope="module")
def student():
    return kd.load_vlm("emoji-student-rn", device="cpu")


def test_scores_by_hand(world, student):
    row = kd.scores(kd.test_features(student, world), world, lambda n: kd.encode_names(student, n), student.scale)
    assert tuple(row) == COLUMNS

    def top1(split, half):
        names, hits = [world.classnames[i] for i in half], []
        text = kd.encode_names(student, names)
        for image, label in zip(split.images, split.labels.tolist()):
            if label in half:
                hits.append(int((kd.encode_images(student, [image]) @ text.T).argmax()) == half.index(label))
        return 100 * sum(hits) / len(hits)

    base, novel = top1(world.test, world.base), top1(world.test, world.novel)
    shifted = [
        sum(top1(s, half) for s in world.shifts.values()) / len(world.shifts) for half in (world.base, world.novel)
    ]
    expected = [base, novel, 2 * base * novel / (base + novel), *shifted]
    assert [row[c] for c in COLUMNS[:5]] == pytest.approx(expected)
    assert 0 <= row["ECE"] <= 100


def test_a_world_without_shifts_says_nan(world, student):
    bare = replace(world, shifts={})
    row = kd.scores(kd.test_features(student, bare), bare, lambda n: kd.encode_names(student, n), student.scale)
    assert row["base shifted"] != row["base shifted"] and row["ECE"] == row["ECE"]


def test_learn_draws_shots_by_seed_and_leaves_the_student_alone(world, student):
    train, seen = kd.of_classes(world.train, world.base), []
    names = [world.classnames[i] for i in world.base]
    features = kd.encode_images(student, train.images)
    before = {n: t.clone() for n, t in student.model.state_dict().items()}

    def loss(prompt, batch):
        seen.append(batch.tolist())
        return torch.nn.functional.cross_entropy(kd.logits(features[batch], prompt(names), 10.0), train.labels[batch])

    def run():
        prompt = kd.PromptLearner(student)
        return prompt, kd.learn(prompt, loss, train.labels, 3, kd.Recipe(epochs=2, batch_size=4), shots=4)

    prompt, history = run()
    per_class = [train.labels[i].item() for i in {i for b in seen for i in b}]
    assert [per_class.count(c) for c in (0, 1)] == [4, 4]
    again, same = run()
    assert history == same and torch.equal(prompt.ctx, again.ctx)
    assert all(torch.equal(t, before[n]) for n, t in student.model.state_dict().items())


@pytest.mark.parametrize(
    "before, after, words",
    [
        (50.0, [52.0, 53.0, 52.5], r"\+2\.5 \[\+1\.3, \+3\.7\] over 3 seeds: higher"),
        ([50.0, 51.0, 52.0], [48.0, 49.5, 50.5], "lower"),
        ([50.0, 51.0, 52.0], [52.0, 49.0, 52.5], "no difference seen"),
    ],
)
def test_claims_say_what_was_measured(before, after, words):
    assert re.search(words, kd.claim("x", before, after))


def test_paper_tables_average_to_what_they_print():
    tables = kd.paper_tables()
    for rows in (tables["domain_generalization"]["RN50"], tables["domain_generalization"]["ViT-B/32"]):
        for name, row in rows.items():
            assert sum(row[1:5]) / 4 == pytest.approx(row[5], abs=0.011), name
    assert "not run here" in tables["source"]


def test_a_student_that_is_its_own_teacher_stays_where_it_is(world, student):
    """A control with a known outcome: both distributions are equal at step 0, so nothing pulls (no weight decay)."""
    train = kd.of_classes(world.train, world.base)
    names, features = [world.classnames[i] for i in world.base], kd.encode_images(student, train.images)
    itself = kd.logits(features, kd.encode_names(student, names), student.scale)

    def loss(prompt, batch):
        return kd.symmetric_kl(itself[batch], kd.logits(features[batch], prompt(names), student.scale))

    recipe = kd.Recipe(epochs=3, batch_size=4, lr=0.05, weight_decay=0.0)
    prompt = kd.PromptLearner(student)
    history = kd.learn(prompt, loss, train.labels, 0, recipe, shots=4)
    assert max(history.loss) < 1e-6
    assert (prompt.ctx - kd.PromptLearner(student).ctx).abs().max() < 1e-4


def test_a_teacher_that_knows_nothing_teaches_nothing(world, student):
    """The other control: matching a uniform teacher raises the entropy of the student's answers."""
    train = kd.of_classes(world.train, world.base)
    names, features = [world.classnames[i] for i in world.base], kd.encode_images(student, train.images)

    def entropy(text):
        return kd.entropy(kd.logits(features, text, student.scale).softmax(-1)).mean()

    def loss(prompt, batch):
        given = kd.logits(features[batch], prompt(names), student.scale)
        return kd.symmetric_kl(torch.zeros_like(given), given)

    prompt = kd.PromptLearner(student)
    kd.learn(prompt, loss, train.labels, 0, kd.Recipe(epochs=10, batch_size=4, lr=0.05), shots=4)
    assert entropy(prompt(names)) > entropy(kd.encode_names(student, names)) + 0.01


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_was_not_measured_has_a_dash(seeds):
    """A world without shifts has no numbers there, for one seed or several."""
    row = {"base": 50.0, "base shifted": float("nan")}
    line = kd.summarise([row] * seeds)
    assert line["base"].startswith("50.0") and line["base shifted"] == "–"


def test_pixels_of_the_tests_are_those_that_features_are_of(world, student):
    """For learners that look at pictures themselves: the same pictures and labels, in the same places."""
    features, pixels = kd.test_features(student, world), kd.test_images(student, world)
    assert features.shifts.keys() == pixels.shifts.keys()
    for half in ("base", "novel"):
        (encoded, labels), (seen, same_labels) = getattr(features, half), getattr(pixels, half)
        assert torch.equal(labels, same_labels)
        with torch.no_grad():
            found = student.model.encode_image(seen[:], normalize=True)
        torch.testing.assert_close(found, encoded, atol=1e-5, rtol=1e-4)
