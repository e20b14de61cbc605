"""data/measure_emoji.py: what it measures is what it says, and a condition that is missed is printed as missed."""

import numpy as np
import pytest
import torch

import kdpl_utils as kd
import measure_emoji as script


def measured(hits, confidence=0.5, labels=None):
    hit = np.array(hits, dtype=bool)
    labels = np.arange(len(hit)) if labels is None else np.array(labels)
    return script.Measured(hit, np.full(len(hit), confidence), labels, ece=0.1, entropy=1.5)


def test_a_quarter_has_every_class_and_every_fourth_view():
    world = kd.load_world("emoji/activities")
    quarter, n_classes = script.quarter(world.train), len(world.classnames)
    assert len(quarter) == len(world.train) / 4
    assert quarter.labels.bincount(minlength=n_classes).tolist() == [len(quarter) // n_classes] * n_classes


def test_what_a_model_says_of_pictures(monkeypatch):
    """Each number from the definition, of logits that are known."""
    z = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [1.0, 0.0, 0.0]])
    monkeypatch.setattr(script.kd, "encode_images", lambda vlm, images: z[list(images)])
    monkeypatch.setattr(script.kd, "logits", lambda features, text, scale: features)
    splits = [
        type("Part", (), {"images": [0, 1], "labels": torch.tensor([0, 2])}),
        type("Part", (), {"images": [2, 3], "labels": torch.tensor([2, 0])}),
    ]
    vlm = type("Model", (), {"scale": torch.tensor(1.0)})
    found = script.measure(vlm, None, splits)
    p = z.exp() / z.exp().sum(dim=1, keepdim=True)
    assert found.hit.tolist() == [True, False, True, True] and found.labels.tolist() == [0, 2, 2, 0]
    np.testing.assert_allclose(found.confidence, p.amax(dim=1).numpy(), rtol=1e-6)
    assert found.entropy == pytest.approx(-(p * p.log()).sum(dim=1).mean().item(), rel=1e-6)
    assert found.ece == pytest.approx(kd.expected_calibration_error(p, torch.from_numpy(found.labels)))


def test_intervals_are_over_concepts():
    """Sixteen views of a drawing are no more than one: copies of every row leave the interval as it is."""
    rng = np.random.default_rng(0)
    hits, labels = rng.random(40) < 0.6, np.arange(40)
    once = script.interval([measured(hits, labels=labels)])
    copied = script.interval([measured(np.tile(hits, 16), labels=np.tile(labels, 16))])
    assert once == pytest.approx(copied)
    low, high = once
    assert low < 100 * hits.mean() < high and high - low > 15  # of 40 drawings: some ± 15 points
    low, high = script.interval([measured(np.ones(9))])
    assert low == high == 100


def test_means_over_groups_count_each_group_once():
    rows = [measured([1, 1, 1, 1]), measured([0, 1])]
    assert script.mean(rows, "hit") == pytest.approx(75)


@pytest.fixture
def world_as_asked():
    """What every model would have to say for all conditions to be met: one group, shares of 100 pictures."""
    shares = {
        "unseen colour": (70, 70, 80, 85, 90), "ink test": (35, 35, 50, 55, 60), "val": (30, 30, 50, 55, 60),
        "adaptation": (40, 40, 90, 92, 95), "colour test": (70, 70, 72, 74, 76),
    }  # fmt: skip
    models = (*script.STUDENTS, *script.TEACHERS)
    return {
        model: {
            ("food", kind): measured(np.arange(100) < of_model[i], confidence=of_model[i] / 100)
            for kind, of_model in shares.items()
        }
        for i, model in enumerate(models)
    }


def verdicts(found, recalls=None):
    """{condition: (measured, met)} as printed."""
    recalls = recalls or {teacher: [0.9] for teacher in script.TEACHERS}
    rows = [line.strip("| ").split(" | ") for line in script.conditions(found, ["food"], recalls)[4:] if line]
    return {condition: (value, met) for condition, _, value, met in rows}


def test_a_world_as_asked_meets_every_condition(world_as_asked):
    found = verdicts(world_as_asked)
    assert len(found) == 16 and {met for _, met in found.values()} == {"yes"}
    assert found["emoji-teacher-large above emoji-student-vit on the ink test"][0] == "+25.0"


@pytest.mark.parametrize("model, kind, share, condition", [
    ("emoji-student-rn", "unseen colour", 60, "emoji-student-rn knows colour"),
    ("emoji-student-vit", "ink test", 20, "emoji-student-vit on ink"),
    ("emoji-student-vit", "ink test", 45, "emoji-teacher-large above emoji-student-vit on the ink test"),
    ("emoji-student-rn", "colour test", 60, "emoji-teacher-large above emoji-student-rn in emoji-colour"),
    ("emoji-teacher-large", "adaptation", 80, "emoji-teacher-large on the adaptation pictures, worst group"),
    ("emoji-teacher-small", "ink test", 58, "teachers in order of size"),
])  # fmt: skip
def test_a_condition_that_is_missed_is_printed_as_missed(world_as_asked, model, kind, share, condition):
    world_as_asked[model]["food", kind] = measured(np.arange(100) < share, confidence=share / 100)
    found = verdicts(world_as_asked)
    assert found[condition][1] == "**no**"


def test_confidence_and_recall_are_conditions_too(world_as_asked):
    name = script.TEACHERS[0]
    world_as_asked[name]["food", "ink test"] = measured(np.arange(100) < 50, confidence=0.6)
    found = verdicts(world_as_asked, {name: [0.5, 0.6], **dict.fromkeys(script.TEACHERS[1:], [0.7])})
    assert found[f"{name}: confidence − accuracy, ink test"] == ("+10.0", "**no**")
    assert found[f"{name}: true names among the K picked"] == ("55.0", "**no**")
    assert sum(met == "**no**" for _, met in found.values()) == 2


def test_the_readme_holds_what_the_script_wrote():
    """Between its marks stand every condition and every kind of pictures."""
    text = script.README.read_text(encoding="utf-8")
    between = text.split(script.START)[1].split(script.END)[0]
    for kind in script.PICTURES:
        assert f"### {kind.capitalize()}: " in between
    assert between.count("confidence − accuracy") == 3 and "What was asked of the world" in between
