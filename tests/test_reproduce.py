"""The paper's protocols as runs: resumable to the bit, complete or absent, scored as the formulas say."""

import json
import random
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

import kdpl_utils as kd
from kdpl_utils import reproduce
from kdpl_utils.cli import main
from kdpl_utils.learners import CoOp
from kdpl_utils.reproduce import Lab, ViewOf, is_complete, paper_rows, plan, run, table_rows
from kdpl_utils.train import Recipe

WORLD = "emoji/activities"
SMALL = {"epochs": 2, "lr": 0.05}


def without_seconds(rows):
    return [{c: v for c, v in row.items() if c != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("runs"), device="cpu")


def test_a_plan_holds_every_combination_once():
    pairs = plan("base-to-novel", WORLD, ["coop", "vpt"], ["labels", "kdpl"], [1, 2, 3], **SMALL)
    jobs = [(j.learner, j.mode, j.seed) for j, _ in pairs]
    assert len(set(jobs)) == len(jobs) == 1 + 2 * 2 * 3 and jobs[0][0] == "zero-shot"
    assert {test for _, test in pairs} == {"halves"} and {j.classes for j, _ in pairs} == {"base"}
    assert all(j.recipe.epochs == 2 and j.recipe.seed == j.seed for j, _ in pairs[1:])
    domain = plan("domain", WORLD, ["coop"], ["kdpl"], [1])
    assert {(j.classes, test) for j, test in domain} == {("all", "domains")}
    few = plan("few-shot", WORLD, ["coop"], ["labels"], [1], shots=[1, 4])
    assert [j.shots for j, _ in few] == [16, 1, 4]
    cross = plan("cross-dataset", WORLD, ["coop"], ["labels"], [1], targets=["emoji", "emoji/objects"])
    assert [test for _, test in cross] == ["test of emoji", "test of emoji/objects"] * 2


def test_published_recipes_are_the_default_on_photographs(tmp_path, monkeypatch):
    """A world of photographs without a single picture read: only its name and its models matter to a plan."""
    photos = replace(kd.load_world(WORLD), name="photos", student=("RN50-quickgelu", "openai"))
    monkeypatch.setattr(reproduce, "load_world", lambda name, root: photos)
    jobs = {j.learner: j for j, _ in plan("domain", "photos", list(reproduce.LEARNERS), ["kdpl"], [1])}
    assert (jobs["coop"].recipe, jobs["coop"].views) == (Recipe(50, 32, 2e-3, seed=1), 8)
    assert jobs["cocoop"].recipe == Recipe(10, 1, 2e-3, seed=1) and jobs["vpt"].recipe == Recipe(5, 4, 2.5e-3, seed=1)
    assert jobs["maple"].recipe == Recipe(5, 4, 3.5e-3, seed=1)
    assert jobs["promptsrc"].settings == {"depth": 3} and jobs["promptsrc"].recipe.average == (6, 10)
    base = {j.learner: j for j, _ in plan("base-to-novel", "photos", ["promptsrc"], ["kdpl"], [1])}["promptsrc"]
    assert base.settings == {} and base.recipe.average == (15, 1)
    assert jobs["coop"].student == ("RN50-quickgelu", "openai")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("best", WORLD, ["coop"], ["kdpl"], [1]), "no table 'best': choose from base-to-novel"),
        (("domain", WORLD, ["coup"], ["kdpl"], [1]), "no learner 'coup'"),
        (("domain", WORLD, ["coop"], ["label"], [1]), "no mode 'label'"),
        (("cross-dataset", WORLD, ["coop"], ["kdpl"], [1]), "needs targets"),
    ],
)
def test_wrong_plans(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan(*arguments)


def test_scores_are_those_of_the_protocol(lab):
    """The run's numbers, from the same shots and the same loss put together by hand."""
    ((_, _), (job, test)) = plan("base-to-novel", WORLD, ["coop"], ["kdpl"], [3], **SMALL)
    found = lab.score(job, test)
    world, student = kd.load_world(WORLD), kd.load_vlm("emoji-student-vit", device="cpu")
    teacher = kd.load_vlm(*world.teacher, device="cpu")
    train, names = kd.of_classes(world.train, world.base), [world.classnames[i] for i in world.base]
    features = kd.encode_images(student, train.images)
    target = kd.logits(
        kd.encode_images(teacher, train.images), kd.encode_names(teacher, names, world.templates), student.scale
    )
    prompt, _ = kd.learn(
        student,
        lambda p, b: kd.symmetric_kl(target[b], kd.logits(features[b], p(names), student.scale)),
        train.labels,
        3,
        Recipe(2, 32, 0.05),
    )
    expected = kd.scores(kd.test_features(student, world), world, prompt, student.scale)
    assert found == pytest.approx(expected, abs=0.2)  # a borderline picture may fall either way
    torch.testing.assert_close(lab.learner(job).prompt.ctx, prompt.ctx, atol=1e-4, rtol=1e-3)


def test_class_agnostic_never_sees_the_class_names(lab, monkeypatch):
    ((_, _), (job, _)) = plan("base-to-novel", WORLD, ["coop"], ["kdpl-ca"], [1], **SMALL)
    world, seen = lab.world(WORLD), set()
    plain = CoOp.text
    monkeypatch.setattr(CoOp, "text", lambda self, names: seen.update(names) or plain(self, names))
    lab.learner(job)
    assert seen <= set(world.dictionary) and len(seen) >= len(world.base)


def test_what_is_complete_is_not_done_again(lab, monkeypatch):
    pairs = plan("base-to-novel", WORLD, ["coop"], ["kdpl"], [3], **SMALL)
    run(pairs, lab.out, workers=1)
    assert all(is_complete(job, test, lab.out) for job, test in pairs)
    monkeypatch.setattr(reproduce, "fit", lambda *a, **k: pytest.fail("trained again"))
    lines = []
    run(pairs, lab.out, workers=1, report=lines.append)
    assert lines == ["0 of 2 runs are to be done."]


def test_one_training_serves_all_its_tests(lab, monkeypatch):
    trained = []
    plain = reproduce.fit
    monkeypatch.setattr(reproduce, "fit", lambda *a, **k: trained.append(1) or plain(*a, **k))
    targets = ["emoji/animals-nature", "emoji/objects"]
    cross = plan("cross-dataset", WORLD, ["coop"], ["labels"], [1], targets=targets, **SMALL)
    run([*cross, *plan("domain", WORLD, ["coop"], ["labels"], [1], **SMALL)], lab.out, workers=1)
    assert trained == [1]
    row = table_rows(cross, lab.out)[1]
    assert float(row["average"]) == pytest.approx((float(row[targets[0]]) + float(row[targets[1]])) / 2, abs=0.051)
    domain = table_rows(plan("domain", WORLD, ["coop"], ["labels"], [1], **SMALL), lab.out)
    assert set(lab.world(WORLD).shifts) < set(domain[0]) and domain[0]["method"] == "zero-shot"


def test_several_teachers_are_averaged(lab):
    teachers = (("emoji-teacher-small", None), ("emoji-teacher-large", None))
    ((_, _), (both, _)) = plan("base-to-novel", WORLD, ["coop"], ["kdpl"], [1], teachers=teachers, **SMALL)
    world = lab.world(WORLD)
    train = kd.of_classes(world.train, world.base)
    student, labels = lab.student(*both.student), train.labels
    seen = {}

    def target(job):
        task = lab._task(job, student, world, world.base, train.images, train.key, labels)
        names, loss = task(torch.arange(4))
        seen[job.teachers] = loss(torch.zeros(4, len(names)))
        return names

    assert target(both) == [world.classnames[i] for i in world.base]
    for pair in teachers:
        target(replace(both, teachers=(pair,)))
    assert len({round(v.item(), 6) for v in seen.values()}) == 3


def test_views_go_round():
    view = ViewOf(3, 2)
    rows = [view(torch.tensor([0, 2])).tolist(), view(torch.tensor([0, 1])).tolist(), view(torch.tensor([0])).tolist()]
    assert rows == [[0, 2], [3, 1], [0]]


def command(out, *more):
    few = ["--learner", "coop", "--seeds", "2", "--shots", "2", "--epochs", "2", "--lr", "0.05", "--workers", "1"]
    return ["reproduce", "--world", WORLD, *few, "--out", str(out), *more]


def test_killed_three_times_the_table_is_the_same(tmp_path, capsys):
    """Killed without warning at random moments, then left alone: the scores are those of an undisturbed run."""
    assert main(command(tmp_path / "calm")) == 0
    rng = random.Random(time.time_ns())
    program = [sys.executable, "-m", "kdpl_utils.cli", *command(tmp_path / "killed")]
    for _ in range(3):
        process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(4, 12))
        process.kill()
        process.wait()
    assert main(command(tmp_path / "killed")) == 0
    options = {"epochs": 2, "lr": 0.05, "shots": [2]}
    pairs = plan("base-to-novel", WORLD, ["coop"], list(reproduce.MODES), [1, 2], **options)
    tables = [without_seconds(table_rows(pairs, tmp_path / name)) for name in ("calm", "killed")]
    assert tables[0] == tables[1] and len(tables[0]) == 4
    assert [row["seeds"] for row in tables[0]] == ["1", "2", "2", "2"]
    for path in (tmp_path / "killed").rglob("*.json"):
        json.loads(path.read_text())


def test_side_by_side_gives_the_same(tmp_path):
    pairs = plan("base-to-novel", WORLD, ["coop"], ["labels"], [1, 2], shots=[2], **SMALL)
    run(pairs, tmp_path / "one", workers=1)
    run(pairs, tmp_path / "two", workers=2)
    assert without_seconds(table_rows(pairs, tmp_path / "one")) == without_seconds(table_rows(pairs, tmp_path / "two"))


def test_a_cluster_gives_the_same(tmp_path):
    """Through submitit's executor for this machine: the same pickled jobs that Slurm would run."""
    pytest.importorskip("submitit")
    pairs = plan("base-to-novel", WORLD, ["coop"], ["labels"], [1], shots=[2], **SMALL)
    run(pairs, tmp_path / "one", workers=1)
    run(pairs, tmp_path / "cluster", workers=2, cluster="local")
    assert without_seconds(table_rows(pairs, tmp_path / "one")) == without_seconds(
        table_rows(pairs, tmp_path / "cluster")
    )
    assert list((tmp_path / "cluster" / "cluster").glob("*_result.pkl"))


def test_the_command_prints_its_table_beside_the_papers(tmp_path, capsys):
    assert main(command(tmp_path, "--mode", "labels", "--table", "domain")) == 0
    printed = capsys.readouterr().out
    assert "| CoOp | labels | 2 | 2 |" in printed and "(paper, not run here)" in printed and "| 49.90 |" in printed


def test_wrong_commands_are_one_sentence(tmp_path, capsys):
    assert main(["reproduce", "--world", "nowhere", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "There is no world 'nowhere'" in error and len(error.splitlines()) == 1 and not list(tmp_path.iterdir())
    assert main(command(tmp_path, "--table", "cross-dataset")) == 2
    assert "needs targets" in capsys.readouterr().err


def test_every_kind_of_table_has_the_papers_numbers_or_none():
    assert [title for title, _ in paper_rows("cross-dataset")] and paper_rows("few-shot") == []
    rows = dict(paper_rows("domain"))["16-shot ImageNet, ViT-B/32"]
    assert {"method": "CoOp+KDPL", "ImageNet": "65.97"}.items() <= rows[2].items()
