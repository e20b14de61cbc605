"""Means, standard deviations and averages over data sets, from files of scores written by hand."""

from statistics import mean, stdev

import pytest

from kdpl_utils.evaluate import harmonic_mean
from kdpl_utils.experiments.runner import Evaluation, RunConfig
from kdpl_utils.experiments.tables import average_rows, paper_rows, table_rows
from kdpl_utils.support.disk import write_json
from kdpl_utils.train import Recipe


def pair(world="dtd", seed=1, table="base-to-novel", target=None, learner="coop", mode="kdpl", **fields):
    student = ("emoji-student-vit", None)
    config = RunConfig(world, learner, mode, seed, student, (), Recipe(seed=seed), **fields)
    return config, Evaluation(table, target or world, "x")


def write(pairs, out, scores):
    for (config, evaluation), row in zip(pairs, scores, strict=True):
        write_json(evaluation.file(config, out), row)
        costs = {"seconds": 2.0, "parameters": 2048, "seconds an image": 0.0123}
        write_json(config.folder(out) / "training.json", costs)


def halves(base, novel):
    return {"base": base, "novel": novel, "H": harmonic_mean(base, novel)}


def test_mean_and_deviation_over_seeds(tmp_path):
    pairs = [pair(seed=seed) for seed in (1, 2, 3)]
    write(pairs, tmp_path, [halves(50.0, 40.0), halves(60.0, 45.0), halves(55.0, 41.0)])
    (row,) = table_rows(pairs, tmp_path)
    assert row["base"] == f"{55:.1f} ± {stdev([50, 60, 55]):.1f}" and row["seeds"] == "3"
    assert (row["method"], row["supervision"]) == ("CoOp", "kdpl")
    assert [row[cost] for cost in ("parameters", "seconds", "seconds an image")] == ["2,048", "2.0", "0.012"]


def test_each_row_lists_what_it_rests_on(tmp_path):
    pairs = [
        pair(learner="zero-shot", mode="labels"),
        pair(mode="labels"),
        pair(),
        pair(label_fraction=0.25),
        pair(mode="hard-teacher", shots=0),
        pair("emoji/objects", learner="linear", mode="labels", shots=4),
        pair("emoji/objects"),
    ]
    write(pairs, tmp_path, [halves(1.0, 1.0)] * 7)
    rows = [table_rows([one], tmp_path)[0] for one in pairs]
    assert [row["labels"] for row in rows] == ["none", "16 a class", "drawing", "25%", "none", "4 a class", "drawing"]
    assert [row["shots"] for row in rows] == ["", "16", "16", "16", "all", "4", "16"]
    assert [row["validation"] for row in rows] == ["none"] * 6 + ["learning rate"]
    assert rows[3]["supervision"] == "kdpl + 25% labels" and {row["protocol"] for row in rows} == {"inductive"}


def test_training_on_the_target_is_transductive_and_its_times_add_up(tmp_path):
    targets = ("dtd", "eurosat")
    cross = {"table": "cross-dataset"}
    own = [pair(t, target=t, learner="promptkd", mode="promptkd", shots=0, **cross) for t in targets]
    one = [pair("imagenet", target=t, **cross) for t in targets]
    write([*own, *one], tmp_path, [{"dtd": 1.0}, {"eurosat": 3.0}] * 2)
    columns = ("method", "protocol", "labels", "seconds", "average")
    promptkd, coop = ([row[column] for column in columns] for row in table_rows([*own, *one], tmp_path))
    assert promptkd == ["PromptKD", "transductive", "none", "4.0", "2.0"]
    assert coop == ["CoOp", "inductive", "drawing", "2.0", "2.0"]


def test_only_complete_seeds_count(tmp_path):
    """Of two targets seed 2 has one: it would move the mean of one column alone."""
    pairs = [pair("emoji", seed, "cross-dataset", f"emoji/{t}") for seed in (1, 2) for t in ("objects", "activities")]
    write(pairs[:3], tmp_path, [{"objects": 10.0}, {"activities": 30.0}, {"objects": 90.0}])
    (row,) = table_rows(pairs, tmp_path)
    assert (row["objects"], row["activities"], row["average"], row["seeds"]) == ("10.0", "30.0", "20.0", "1")
    assert table_rows([pair("flowers102")], tmp_path) == []


def test_the_average_has_the_harmonic_mean_of_the_averages(tmp_path):
    tables = [[pair(world, seed) for seed in (1, 2, 3)] for world in ("dtd", "eurosat")]
    write(tables[0], tmp_path, [halves(80.0, 20.0), halves(70.0, 30.0), halves(99.0, 99.0)])
    write(tables[1][:2], tmp_path, [halves(40.0, 60.0), halves(50.0, 10.0)])
    tables[0].append(pair("dtd", mode="labels"))
    write(tables[0][3:], tmp_path, [halves(1.0, 1.0)])
    (row,) = average_rows(tables, tmp_path)  # without seed 3 and labels, which one data set lacks
    h = [harmonic_mean(60, 40), harmonic_mean(60, 20)]
    assert row["base"] == "60.0 ± 0.0" and row["H"] == f"{mean(h):.1f} ± {stdev(h):.1f}"


def test_the_papers_rows():
    assert len(paper_rows("cross-dataset")) == len(paper_rows("base-to-novel")) == 1 and paper_rows("few-shot") == []
    rows = dict(paper_rows("domain"))["16-shot ImageNet, ViT-B/32"]
    assert {"method": "CoOp+KDPL", "ImageNet": "65.97"}.items() <= rows[2].items()


@pytest.mark.parametrize("world", [r"C:\pictures\cats", "/home/me/cats?", ".."])
def test_a_world_named_by_a_path_stays_in_the_folder(world, tmp_path):
    config, evaluation = pair(world)
    file = evaluation.file(config, tmp_path)
    assert len(file.relative_to(tmp_path).parts) == 3
    assert not set(r'\:*?"<>|{}') & set(str(file.relative_to(tmp_path)))
