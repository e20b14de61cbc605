"""The benchmarks run, and what they compare agrees; how fast anything is, no test decides."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kdpl_utils as kd
from kdpl_utils.experiments import tables

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = "emoji-student-vit"


def printed(script: str, *arguments: str) -> list[dict[str, str]]:
    """The rows of the first table that a benchmark prints."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr[-2000:]
    table = re.search(r"((?:^\|.*\|$\n?)+)", run.stdout, re.MULTILINE).group(1)
    head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_text():
    rows = printed("text.py", "--model", SMALL, "--names", "5", "--rounds", "1", "--no-memory")
    assert [row["way"] for row in rows] == ["plain", "tree"]
    assert float(rows[1]["features apart"]) < 1e-5 and float(rows[1]["gradients apart"]) < 1e-5
    assert float(rows[1]["times faster"]) > 0 and float(rows[0]["times faster"]) == 1


def test_steps():
    rows = printed("steps.py", "--student", SMALL, "--names", "5", "--no-memory", "--rounds", "1")
    assert [row["learner"] for row in rows] == ["CoOp", "CoCoOp", "VPT", "MaPLe", "PromptSRC"]
    assert all(float(row["logits apart"]) < 1e-5 and float(row["gradients apart"]) < 1e-4 for row in rows)


def test_real_size():
    small = ["--student", SMALL, "--teacher", "emoji-teacher-small", "--batch", "2", "--k", "4", "--dictionary", "9"]
    rows = printed("real_size.py", *small, "--plain")
    assert [row["step"].split(",")[0] for row in rows] == [
        "teacher's bare forward", "KDPL", "class-agnostic", "published way"
    ]  # fmt: skip


@pytest.mark.parametrize("more, columns", [((), ["H", "ECE", "seconds"]), (("--choose",), ["lr 0.05"])])
def test_learners(tmp_path, more, columns):
    few = ["--world", "emoji/activities", "--student", SMALL, "--seeds", "1", "--workers", "1", "--out", str(tmp_path)]
    rows = printed("learners.py", *few, *more)
    assert all(float(row[c].split()[0]) >= 0 for row in rows for c in columns)
    assert len(rows) == (1 if more else 4)


def test_what_a_sceptic_asks_for_is_planned_once(monkeypatch):
    """Every control, the head and PromptKD, each seed once, beside one zero-shot student."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import learners

    tables = learners.tables_of(["emoji/activities"], [SMALL], learners.SCEPTIC, seeds=[1, 2])
    jobs = [job for job, _ in tables["emoji/activities", SMALL]]
    assert [job.learner for job in jobs].count("zero-shot") == 1 and jobs[0].learner == "zero-shot"
    planned = [(job.learner, job.mode, job.seed) for job in jobs[1:]]
    pairs = [(learner, mode) for learner, modes in learners.SCEPTIC.items() for mode in modes]
    assert planned == [(learner, mode, seed) for learner, mode in pairs for seed in (1, 2)]
    assert ("coop", "random-names") in pairs and ("promptkd", "promptkd") in pairs and len(pairs) == 12


def test_the_best_template_is_that_of_val(monkeypatch, tmp_path):
    """Not that of the test pictures: where the two differ, val decides."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import learners

    few = ("a photo of a {}.", "asdf qwer zxcv {} uiop", "an outlined symbol of a {}.")
    monkeypatch.setattr(learners, "HAND_WRITTEN_TEMPLATES", few)
    world, student = kd.load_world("emoji/activities"), kd.load_vlm(SMALL)
    tenth = {part: getattr(world, part).subset(range(0, len(getattr(world, part)), 10)) for part in ("val", "test")}
    world = dataclasses.replace(world, **tenth)
    monkeypatch.setattr(learners.Lab, "world", lambda lab, name: world)
    first, best = learners.hand_written(SMALL, ["emoji/activities"], tmp_path)
    val, names = world.val.of_classes(world.base), [world.classnames[c] for c in world.base]
    features = kd.encode_images(student, val.images)
    on_val = {
        template: 100 * kd.accuracy(
            kd.logits(features, kd.encode_names(student, names, (template,)), student.scale), val.labels)
        for template in few
    }  # fmt: skip
    assert (first["template"], first["chosen"]) == (few[0], "no")
    assert best["template"] == max(on_val, key=on_val.get)
    assert float(best["on val"]) == pytest.approx(max(on_val.values()), abs=0.06)


def scored(base_of, novel=20.0):
    """A table of one learner as ``average_scores`` gives it: base by supervision and seed."""
    terms = {"shots": "16", "protocol": "inductive", "labels": "none", "validation": "none"}
    found = {}
    for (name, supervision), bases in base_of.items():
        rows = {seed: {"base": base, "novel": novel, "H": base / 2} for seed, base in bases.items()}
        found[tables.Method(name, supervision, **terms)] = rows
    return found


SCORED = {
    ("zero-shot", ""): {0: 30.0},
    ("CoOp", "labels"): {1: 32.0, 2: 35.0},
    ("CoOp", "kdpl"): {1: 33.0, 2: 34.0},
    ("CoOp", "kdpl-ca"): {1: 28.0, 2: 27.0},
}


def test_differences_are_of_the_learned_over_what_stands_before(monkeypatch):
    """By seed, with their sign: a row above zero-shot is positive, one below labels negative."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import learners

    monkeypatch.setattr(learners, "average_scores", lambda tables, out: scored(SCORED))
    rows = {row["supervision"]: row for row in learners.differences([], Path(), [1, 2])}
    assert set(rows) == {"labels", "kdpl", "kdpl-ca"}
    expected = {"labels": ("+3.5", None), "kdpl": ("+3.5", "+0.0"), "kdpl-ca": ("-2.5", "-6.0")}
    for supervision, (over_zero_shot, over_labels) in expected.items():
        row = rows[supervision]
        assert row["base − zero-shot"].startswith(over_zero_shot)
        assert row["novel − zero-shot"].startswith("-0.0") or row["novel − zero-shot"].startswith("+0.0")
        assert row["base − labels"].startswith(over_labels) if over_labels else row["base − labels"] == "–"


def test_a_gap_is_how_far_the_teacher_is_ahead_and_a_gain_over_zero_shot(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import learners

    monkeypatch.setattr(learners, "average_scores", lambda tables, out: scored(SCORED))
    asked = []
    monkeypatch.setattr(learners.Lab, "score", lambda lab, job, test: asked.append(job) or {"base": 55.0})
    (row,) = learners.gaps(tmp_path, {("emoji/activities", SMALL): []}, [1, 2])
    assert row == {
        "world": "emoji/activities", "student": SMALL, "zero-shot": 30.0, "gap": 25.0,
        "labels": 3.5, "kdpl": 3.5, "kdpl-ca": -2.5,
    }  # fmt: skip
    assert [(job.learner, job.student) for job in asked] == [("zero-shot", ("emoji-teacher-large", None))]
    learners.draw_gaps([row], tmp_path / "gap.png")
    assert (tmp_path / "gap.png").stat().st_size > 5000


def test_whole_run():
    small = ["--student", SMALL, "--teacher", "emoji-teacher-small", "--names", "4", "8", "--dictionary", "12"]
    rows = printed("whole_run.py", *small, "--no-memory", "--rounds", "1")
    assert [(row["classes"], row["learned from"]) for row in rows] == [
        (n, mode) for n in ("4", "8") for mode in ("labels", "kdpl", "class-agnostic")
    ]
    assert [row["steps"] for row in rows[::3]] == ["100", "200"]
    assert all(float(row["times faster"]) == pytest.approx(
        float(row["plain hours"]) / float(row["here hours"]), rel=0.02) for row in rows)  # fmt: skip


def test_kills():
    """One kill of each kind of run; fifty take minutes."""
    rows = printed("kills.py", "--kills", "5")
    assert [row["kills"] for row in rows] == ["1"] * 5 and {row["result"] for row in rows} == {"the same"}


@pytest.mark.parametrize(
    "command", [["kills.py", "--kills", "-1"], ["learners.py", "--seeds", "0"], ["text.py", "--names", "100", "0"]]
)
def test_none_is_no_number_of_anything(command):
    """Of no kills and of no seeds all would have gone well."""
    done = subprocess.run([sys.executable, str(BENCHMARKS / command[0]), *command[1:]], capture_output=True, text=True)
    assert done.returncode == 2 and "is less than one" in done.stderr and "Traceback" not in done.stderr
