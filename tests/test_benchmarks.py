"""The benchmarks run, and what they compare agrees; no test decides how fast anything is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = ["--student", "emoji-student-vit", "--teacher", "emoji-teacher-small"]


def printed(script: str, *arguments: str) -> list[list[dict[str, str]]]:
    """Run a benchmark and return the rows of each table that it prints."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr[-2000:]
    tables = []
    for text in re.findall(r"((?:^\|.*\|$\n?)+)", run.stdout, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()]
        tables.append([dict(zip(head, row, strict=True)) for row in rows])
    return tables


def test_text():
    (rows,) = printed("text.py", "--model", "emoji-student-vit", "--names", "5", "--rounds", "1", "--no-memory")
    assert [row["path"] for row in rows] == ["published", "fast"]
    assert float(rows[1]["distance of features"]) < 1e-5 and float(rows[1]["distance of gradients"]) < 1e-5
    assert float(rows[0]["times faster"]) == 1


def test_whole_run():
    (rows,) = printed("whole_run.py", *SMALL, "--names", "4", "8", "--dictionary", "12")
    assert [(row["classes"], row["steps"]) for row in rows] == [("4", "100")] * 3 + [("8", "200")] * 3
    for row in rows:
        ratio = float(row["published hours"]) / float(row["hours here"])
        assert float(row["times faster"]) == pytest.approx(ratio, rel=0.02)


def test_real_size():
    few = ["--batch", "2", "--k", "4", "--dictionary", "9", "--shots", "1", "--epochs", "1"]
    steps, runs = printed("real_size.py", *SMALL, *few)
    assert [row["step"].split(",")[0] for row in steps] == ["teacher's bare forward", "KDPL", "class-agnostic"]
    assert [row["precision"] for row in runs] == ["fp32", "bf16"]
    assert float(runs[1]["distance of contexts"]) < 1e-3


def test_learners_are_compared_and_finished_runs_are_not_repeated(tmp_path):
    few = ["--world", "emoji/activities", "--student", "emoji-student-vit", "--learner", "coop"]
    few += ["--mode", "labels", "kdpl", "--seeds", "2", "--workers", "1", "--out", str(tmp_path)]
    table, differences, templates = printed("learners.py", *few)
    assert [row["method"] for row in table] == ["zero-shot", "CoOp", "CoOp"]
    assert [row["supervision"] for row in differences] == ["labels", "kdpl"]
    assert differences[0]["base − labels"] == "–" and "[" in differences[1]["base − labels"]
    assert float(templates[1]["on val"]) >= float(templates[0]["on val"])  # the best is chosen on val
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("training.json")}
    assert printed("learners.py", *few)[0] == table
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("training.json")} == written
