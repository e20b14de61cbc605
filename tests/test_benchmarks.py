"""The benchmarks run, and what they compare agrees; how fast anything is, no test decides."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
