"""data/measure_emoji.py: each number is what its definition says, and a missed condition is printed as missed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import kdpl_utils as kd
import measure_emoji as script
from provenance import Likeness

FIRST, BEST = script.HAND_WRITTEN_TEMPLATES[0], script.HAND_WRITTEN_TEMPLATES[4]
MODELS = (*script.STUDENTS, *script.TEACHERS)


def measured(base, novel=None, confidence=0.5):
    """100 classes of one picture each, of which the shares ``base`` and ``novel`` are correct."""
    novel = base if novel is None else novel
    hit = np.concatenate([np.arange(50) < 50 * share for share in (base, novel)]).astype(float)
    return script.Measured(hit, np.full(100, confidence), np.full(100, 1.5), 0.1, np.arange(100), 50, script.INK * 20)


def test_each_half_is_classified_among_its_own_names(monkeypatch):
    monkeypatch.setattr(
        script.kd, "encode_names", lambda vlm, names, templates: torch.eye(3)[["abc".index(n) for n in names]]
    )
    world = type("World", (), {"base": range(2), "novel": range(2, 3), "classnames": "abc"})
    features = torch.tensor([[1.0, 0, 2], [1, 0, 0], [0, 3, 2]])  # the third name is nearest to the first picture
    split = type("Part", (), {"labels": torch.tensor([0, 1, 2]), "styles": ("x", "y", "z")})
    vlm = type("Model", (), {"scale": torch.tensor(2.0)})
    found = script.measure(vlm, features, split, world, FIRST)
    assert found.hit.tolist() == [1, 0, 1] and [half.tolist() for half in found.halves()] == [[1, 0], [1]]
    p = torch.tensor([2.0, 0.0]).softmax(0)
    np.testing.assert_allclose(found.confidence, [p[0], p[0], 1], rtol=1e-6)
    assert found.entropy[0] == pytest.approx(-(p * p.log()).sum().item(), rel=1e-5) and found.entropy[2] == 0
    assert found.styles == split.styles


def test_numbers_are_means_of_halves_and_groups():
    rows = [measured(0.2, 0.6), measured(1.0, 1.0)]
    assert script.over_groups(rows) == pytest.approx((40 + 100) / 2)
    assert script.over_groups(rows, script.harmonic) == pytest.approx((30 + 100) / 2)
    assert script.over_groups([measured(0, 0)], script.harmonic) == 0
    mixed = replace(rows[0], styles=("symbola",) * 50 + ("noto-emoji",) * 50)
    assert script.by_style([mixed], "noto-emoji") == pytest.approx(60)


def test_intervals_are_over_classes_and_differences_are_paired():
    row = measured(0.6)
    copied = replace(row, hit=np.tile(row.hit, 16), labels=np.tile(row.labels, 16))  # views add nothing
    low, high = script.interval([row])
    assert script.interval([copied]) == pytest.approx((low, high))
    assert low < 60 < high and 12 < high - low < 28
    assert script.interval([measured(1.0)]) == (100, 100)
    assert script.interval([row], [row]) == (0, 0)
    low, high = script.interval([measured(0.7)], [row])
    assert low < 10 < high and high - low < 14  # ten of the same hundred classes


def test_a_probe_learns_what_its_shots_show():
    world = kd.load_world("emoji/activities")
    features = torch.nn.functional.one_hot(world.train.labels).float()
    test = torch.nn.functional.one_hot(world.test.labels).float()
    assert script.linear_probe(features, test, world) == 1
    assert script.linear_probe(features, test.roll(1, dims=1), world) < 0.1


def test_no_class_shares_an_artist_and_one_would_be_counted(monkeypatch):
    assert script.shared_artists() == 0
    roles = script.roles_of
    monkeypatch.setattr(script, "roles_of", lambda c, kind: replace(roles(c, kind), test=roles(c, kind).train))
    assert script.shared_artists() == 2 * (55 + 108 + 87 + 176 + 122 + 169)


@pytest.fixture
def reports():
    """A world that meets every condition: one group."""
    shares = {
        "training pictures": (0.3, 0.3, 0.5, 0.6, 0.7), "val": (0.3, 0.3, 0.5, 0.6, 0.7),
        "ink test": (0.3, 0.3, 0.5, 0.6, 0.7), "unseen colour": (0.6, 0.6, 0.7, 0.8, 0.9),
        "pixels": (0.2, 0.2, 0.4, 0.5, 0.6), "emoji-colour test": (0.6, 0.6, 0.7, 0.8, 0.9),
    }  # fmt: skip
    made = {}
    for i, model in enumerate(MODELS):
        report = script.Report(20.0, recalls=[0.9], probes=[0.5])
        for part, of_model in shares.items():
            report.found["food", part] = measured(of_model[i], confidence=of_model[i])
        for template in script.HAND_WRITTEN_TEMPLATES:
            row = measured(0.4 if template == BEST else 0.3)
            report.on_val[template, "food"] = report.on_test[template, "food"] = row
        made[model] = report
    return made


ALIKE = {("symbola", "twemoji"): Likeness(500, 0.4, 0.2), ("symbola", "fxemoji"): Likeness(50, 0.55, 0.9)}
SIZES = dict.fromkeys(MODELS, 7.0)


def verdicts(reports, alike=ALIKE, sizes=SIZES):
    """{condition: (measured, met)} as printed."""
    rows = [line.strip("| ").split(" | ") for line in script.conditions(reports, ["food"], alike, sizes)[4:] if line]
    return {f"{number} {what}": (value, met) for number, what, _, value, met in rows}


def missed(*arguments):
    return [what for what, (_, met) in verdicts(*arguments).items() if met != "yes"]


def test_a_world_that_meets_every_condition_is_said_to(reports):
    found = verdicts(reports)
    assert len(found) == 25 and not missed(reports)
    assert found[f"2 emoji-student-rn: H on val, `{BEST}` above `{FIRST}`"][0].startswith("+10.0 (")
    assert found["3 emoji-teacher-large above emoji-student-vit on the ink test"][0].startswith("+40.0 (")


@pytest.mark.parametrize("model, part, share, condition", [
    ("emoji-student-rn", "unseen colour", 0.5, "3 emoji-student-rn on unseen colour"),
    ("emoji-student-vit", "ink test", 0.2, "3 emoji-student-vit on the ink test"),
    ("emoji-teacher-small", "training pictures", 0.56, "4 emoji-teacher-small: training pictures − test pictures"),
])  # fmt: skip
def test_a_missed_condition_is_printed_as_missed(reports, model, part, share, condition):
    reports[model].found["food", part] = measured(share, confidence=share)
    assert missed(reports) == [condition]


def test_every_condition_can_be_missed(reports):
    """One fault each: wording, order of the teachers, confidence, recall, likeness and size."""
    reports["emoji-student-vit"].on_val[BEST, "food"] = measured(0.34)
    large = measured(0.58, confidence=0.7)
    reports["emoji-teacher-large"].found["food", "ink test"] = large
    reports["emoji-teacher-large"].found["food", "training pictures"] = large
    reports["emoji-teacher-small"].recalls = [0.5, 0.6]
    alike = {**ALIKE, ("symbola", "noto-v1"): Likeness(500, 0.6, 0.3), ("symbola", "x"): Likeness(9, 0.7, 0)}
    found = missed(reports, alike, {**SIZES, "emoji-teacher-large": 16.0})
    assert [what[0] for what in found] == ["1", "1", "1", "2", "3", "3", "5", "6", "7"]


def test_tables_hold_every_model_style_and_template(reports):
    tables = [
        *script.accuracy_tables(reports, ["food"]), *script.templates_table(reports, ["food"]),
        *script.style_table({name: reports[name] for name in MODELS[:1]}, ["food"]),
        *script.model_table(reports, ["food"], SIZES),
    ]  # fmt: skip
    text = "\n".join(tables)
    assert text.count("| emoji-teacher-large | 70.0 | ") == 3  # training pictures, val, ink test
    assert all(f"| `{template}` | " in text for template in script.HAND_WRITTEN_TEMPLATES)
    assert "| symbola | 30.0 | 40.0 |" in text
