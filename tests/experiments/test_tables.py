"""Means, standard deviations and averages over data sets, from files of scores written by hand."""

import json
from statistics import mean, stdev

import pytest

from kdpl_utils.evaluate import harmonic_mean
from kdpl_utils.experiments.tables import average_rows, paper_rows, table_rows
from kdpl_utils.experiments.training import Evaluation, Training
from kdpl_utils.train import Recipe


def pair(world, seed=1, kind="halves", mode="kdpl", target=None, labelled=0.0, learner="coop", shots=16):
    student = ("emoji-student-vit", None)
    job = Training(world, learner, mode, seed, student, (), Recipe(seed=seed), labelled=labelled, shots=shots)
    return job, Evaluation(kind, target or world, "x")


def write(pairs, out, scores):
    for (job, evaluation), row in zip(pairs, scores, strict=True):
        evaluation.file(job, out).parent.mkdir(parents=True, exist_ok=True)
        evaluation.file(job, out).write_text(json.dumps(row))
        (job.folder(out) / "training.json").write_text('{"seconds": 2.0, "learned": 2048}')
        (job.folder(out) / "use.json").write_text('{"seconds a picture": 0.0123}')


def halves(base, novel):
    return {"base": base, "novel": novel, "H": harmonic_mean(base, novel)}


def test_mean_and_deviation_over_seeds(tmp_path):
    pairs = [pair("emoji", seed) for seed in (1, 2, 3)]
    write(pairs, tmp_path, [halves(50.0, 40.0), halves(60.0, 45.0), halves(55.0, 41.0)])
    (row,) = table_rows(pairs, tmp_path)
    assert row["base"] == f"{55:.1f} ± {stdev([50, 60, 55]):.1f}" and row["seeds"] == "3"
    assert (row["method"], row["supervision"], row["seconds"]) == ("CoOp", "kdpl", "2.0 ± 0.0")


def test_every_row_says_on_what_terms(tmp_path):
    pairs = [
        pair("dtd", mode="labels"), pair("dtd"), pair("dtd", mode="kdpl", labelled=0.25),
        pair("dtd", mode="hard-teacher", shots=0), pair("dtd", learner="linear", mode="labels", shots=4),
    ]  # fmt: skip
    write(pairs, tmp_path, [halves(1.0, 1.0)] * 5)
    rows = table_rows(pairs, tmp_path)
    assert [row["labels"] for row in rows] == ["16 a class", "drawing", "25%", "none", "4 a class"]
    assert {row["validation"] for row in rows} == {"none"}
    assert {row["protocol"] for row in rows} == {"inductive"} and rows[3]["shots"] == "all"
    assert [(row["learned"], row["seconds a picture"]) for row in rows] == [("2,048", "0.012")] * 5
    assert {row["seeds"] for row in rows} == {"1"}


def test_the_emoji_worlds_learning_rates_were_chosen_on_pictures_left_out(tmp_path):
    pairs = [pair("emoji/objects"), pair("emoji/objects", learner="linear")]
    write(pairs, tmp_path, [halves(1.0, 1.0)] * 2)
    assert [row["validation"] for row in table_rows(pairs, tmp_path)] == ["learning rate", "none"]


def test_zero_shot_learns_nothing_from_nothing(tmp_path):
    job, evaluation = pair("emoji", learner="zero-shot", mode="labels")
    write([(job, evaluation)], tmp_path, [halves(1.0, 1.0)])
    (job.folder(tmp_path) / "training.json").unlink()
    (row,) = table_rows([(job, evaluation)], tmp_path)
    assert (row["labels"], row["learned"], row["seconds"], row["validation"]) == ("none", "0", "0.0", "none")


def test_learning_from_the_target_is_transductive_and_pays_for_each(tmp_path):
    """PromptKD trains once for each target: its seconds are those of all trainings, a prompt learner's of its one."""
    targets = ("dtd", "eurosat")
    own = [pair(t, kind="transfer", learner="promptkd", mode="promptkd", target=t, shots=0) for t in targets]
    one = [pair("imagenet", kind="transfer", target=t) for t in targets]
    write([*own, *one], tmp_path, [{"dtd": 1.0}, {"eurosat": 3.0}] * 2)
    peer, ours = table_rows([*own, *one], tmp_path)
    told = ("method", "protocol", "labels", "seconds", "average")
    assert [peer[column] for column in told] == ["PromptKD", "transductive", "none", "4.0", "2.0"]
    assert [ours[column] for column in told] == ["CoOp", "inductive", "drawing", "2.0", "2.0"]


def test_only_complete_seeds_count(tmp_path):
    """Of two targets seed 2 has one: it would move the mean of one column alone."""
    pairs = [pair("emoji", seed, "transfer", target=f"emoji/{t}") for seed in (1, 2) for t in ("objects", "activities")]
    write(pairs[:3], tmp_path, [{"objects": 10.0}, {"activities": 30.0}, {"objects": 90.0}])
    (row,) = table_rows(pairs, tmp_path)
    assert (row["objects"], row["activities"], row["average"], row["seeds"]) == ("10.0", "30.0", "20.0", "1")


def test_nothing_complete_is_an_empty_table(tmp_path):
    assert table_rows([pair("emoji")], tmp_path) == []


def test_labels_and_modes_are_rows_of_their_own(tmp_path):
    pairs = [pair("emoji"), pair("emoji", labelled=0.25), pair("emoji", mode="labels")]
    write(pairs, tmp_path, [halves(1.0, 1.0), halves(2.0, 2.0), halves(3.0, 3.0)])
    rows = {row["supervision"]: row["base"] for row in table_rows(pairs, tmp_path)}
    assert rows == {"kdpl": "1.0", "kdpl + 25% labels": "2.0", "labels": "3.0"}


def test_the_average_has_the_harmonic_mean_of_the_averages(tmp_path):
    tables = [[pair(world, seed) for seed in (1, 2)] for world in ("emoji/objects", "emoji/travel-places")]
    write(tables[0], tmp_path, [halves(80.0, 20.0), halves(70.0, 30.0)])
    write(tables[1], tmp_path, [halves(40.0, 60.0), halves(50.0, 10.0)])
    (row,) = average_rows(tables, tmp_path)
    h = [harmonic_mean(60, 40), harmonic_mean(60, 20)]
    assert row["base"] == "60.0 ± 0.0" and row["H"] == f"{mean(h):.1f} ± {stdev(h):.1f}"
    assert mean(h) != pytest.approx(mean(harmonic_mean(*p) for p in ((80, 20), (40, 60), (70, 30), (50, 10))), abs=1)


def test_a_seed_that_a_data_set_lacks_is_not_averaged(tmp_path):
    tables = [[pair(world, seed) for seed in (1, 2)] for world in ("emoji/objects", "emoji/travel-places")]
    write(tables[0], tmp_path, [halves(80.0, 20.0), halves(70.0, 30.0)])
    write(tables[1][:1], tmp_path, [halves(40.0, 60.0)])
    (row,) = average_rows(tables, tmp_path)
    assert (row["base"], row["seeds"]) == ("60.0", "1")


def test_every_kind_of_table_has_the_papers_numbers_or_none():
    assert len(paper_rows("cross-dataset")) >= 1 and paper_rows("few-shot") == []
    rows = dict(paper_rows("domain"))["16-shot ImageNet, ViT-B/32"]
    assert {"method": "CoOp+KDPL", "ImageNet": "65.97"}.items() <= rows[2].items()


def test_a_method_that_a_data_set_lacks_is_not_averaged(tmp_path):
    tables = [[pair(world), pair(world, mode="labels")] for world in ("emoji/objects", "emoji/travel-places")]
    write(tables[0], tmp_path, [halves(80.0, 20.0), halves(70.0, 30.0)])
    write(tables[1][:1], tmp_path, [halves(40.0, 60.0)])
    (row,) = average_rows(tables, tmp_path)
    assert (row["supervision"], row["base"]) == ("kdpl", "60.0")


def test_scores_without_two_halves_are_averaged_as_they_are(tmp_path):
    tables = [[pair(world, kind="all")] for world in ("emoji/objects", "emoji/travel-places")]
    for table, score in zip(tables, (80.0, 40.0)):
        write(table, tmp_path, [{"accuracy": score}])
    (row,) = average_rows(tables, tmp_path)
    assert row["accuracy"] == "60.0" and "H" not in row


def test_a_method_without_a_complete_seed_has_no_row(tmp_path):
    pairs = [pair("emoji", 1, "transfer", target=f"emoji/{t}") for t in ("objects", "activities")]
    write(pairs[:1], tmp_path, [{"objects": 10.0}])
    assert table_rows(pairs, tmp_path) == []


def test_what_a_training_cost_may_be_unknown(tmp_path):
    """Its scores count all the same; a number that nobody noted is a dash and no zero."""
    one = pair("emoji")
    write([one], tmp_path, [halves(50.0, 50.0)])
    for name in ("training.json", "use.json"):
        (one[0].folder(tmp_path) / name).unlink()
    (row,) = table_rows([one], tmp_path)
    assert row["base"] == "50.0" and [row[c] for c in ("learned", "seconds", "seconds a picture")] == ["–"] * 3
