"""Means, standard deviations and averages over data sets, from files of scores written by hand."""

import json
from statistics import mean, stdev

import pytest

from kdpl_utils.evaluate import harmonic_mean
from kdpl_utils.experiments.tables import average_rows, paper_rows, table_rows
from kdpl_utils.experiments.training import Evaluation, Training
from kdpl_utils.train import Recipe


def pair(world, seed=1, kind="halves", mode="kdpl", target=None, labelled=0.0):
    student = ("emoji-student-vit", None)
    job = Training(world, "coop", mode, seed, student, (), Recipe(seed=seed), labelled=labelled)
    return job, Evaluation(kind, target or world, "x")


def write(pairs, out, scores):
    for (job, evaluation), row in zip(pairs, scores, strict=True):
        evaluation.file(job, out).parent.mkdir(parents=True, exist_ok=True)
        evaluation.file(job, out).write_text(json.dumps(row))
        (job.folder(out) / "training.json").write_text('{"seconds": 2.0}')


def halves(base, novel):
    return {"base": base, "novel": novel, "H": harmonic_mean(base, novel)}


def test_mean_and_deviation_over_seeds(tmp_path):
    pairs = [pair("emoji", seed) for seed in (1, 2, 3)]
    write(pairs, tmp_path, [halves(50.0, 40.0), halves(60.0, 45.0), halves(55.0, 41.0)])
    (row,) = table_rows(pairs, tmp_path)
    assert row["base"] == f"{55:.1f} ± {stdev([50, 60, 55]):.1f}" and row["seeds"] == "3"
    assert (row["method"], row["supervision"], row["seconds"]) == ("CoOp", "kdpl", "2.0 ± 0.0")


def test_only_complete_seeds_count(tmp_path):
    """Of two targets seed 2 has one: it would move the mean of one column alone."""
    pairs = [pair("emoji", seed, "transfer", target=f"emoji/{t}") for seed in (1, 2) for t in ("objects", "symbols")]
    write(pairs[:3], tmp_path, [{"objects": 10.0}, {"symbols": 30.0}, {"objects": 90.0}])
    (row,) = table_rows(pairs, tmp_path)
    assert (row["objects"], row["symbols"], row["average"], row["seeds"]) == ("10.0", "30.0", "20.0", "1")


def test_nothing_complete_is_an_empty_table(tmp_path):
    assert table_rows([pair("emoji")], tmp_path) == []


def test_labels_and_modes_are_rows_of_their_own(tmp_path):
    pairs = [pair("emoji"), pair("emoji", labelled=0.25), pair("emoji", mode="labels")]
    write(pairs, tmp_path, [halves(1.0, 1.0), halves(2.0, 2.0), halves(3.0, 3.0)])
    rows = {row["supervision"]: row["base"] for row in table_rows(pairs, tmp_path)}
    assert rows == {"kdpl": "1.0", "kdpl + 25% labels": "2.0", "labels": "3.0"}


def test_the_average_has_the_harmonic_mean_of_the_averages(tmp_path):
    tables = [[pair(world, seed) for seed in (1, 2)] for world in ("emoji/objects", "emoji/symbols")]
    write(tables[0], tmp_path, [halves(80.0, 20.0), halves(70.0, 30.0)])
    write(tables[1], tmp_path, [halves(40.0, 60.0), halves(50.0, 10.0)])
    (row,) = average_rows(tables, tmp_path)
    h = [harmonic_mean(60, 40), harmonic_mean(60, 20)]
    assert row["base"] == "60.0 ± 0.0" and row["H"] == f"{mean(h):.1f} ± {stdev(h):.1f}"
    assert mean(h) != pytest.approx(mean(harmonic_mean(*p) for p in ((80, 20), (40, 60), (70, 30), (50, 10))), abs=1)


def test_a_seed_that_a_data_set_lacks_is_not_averaged(tmp_path):
    tables = [[pair(world, seed) for seed in (1, 2)] for world in ("emoji/objects", "emoji/symbols")]
    write(tables[0], tmp_path, [halves(80.0, 20.0), halves(70.0, 30.0)])
    write(tables[1][:1], tmp_path, [halves(40.0, 60.0)])
    (row,) = average_rows(tables, tmp_path)
    assert (row["base"], row["seeds"]) == ("60.0", "1")


def test_every_kind_of_table_has_the_papers_numbers_or_none():
    assert [title for title, _ in paper_rows("cross-dataset")] and paper_rows("few-shot") == []
    rows = dict(paper_rows("domain"))["16-shot ImageNet, ViT-B/32"]
    assert {"method": "CoOp+KDPL", "ImageNet": "65.97"}.items() <= rows[2].items()
