"""The paper's protocols as runs: resumable to the bit, complete or absent, scored as the formulas say."""

import json
import random
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest

import kdpl_utils as kd
from kdpl_utils.apps.cli import main
from kdpl_utils.experiments import lab as module
from kdpl_utils.experiments import plan as reproduce
from kdpl_utils.experiments import run as run_module
from kdpl_utils.experiments.lab import Lab
from kdpl_utils.experiments.plan import is_complete, plan
from kdpl_utils.experiments.run import run
from kdpl_utils.experiments.slurm import RunsFailed
from kdpl_utils.experiments.tables import table_rows
from kdpl_utils.experiments.training import PAPER_MODES
from kdpl_utils.learners import LEARNERS
from kdpl_utils.support.disk import DiskFull
from kdpl_utils.support.locks import Busy
from kdpl_utils.train import Recipe
from kdpl_utils.worlds.datasets import DATASETS, TARGETS

WORLD = "emoji/activities"
SMALL = {"epochs": 2, "lr": 0.05}


def without_seconds(rows):
    return [{c: v for c, v in row.items() if not c.startswith("seconds")} for row in rows]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("runs"), device="cpu")


def test_a_plan_holds_every_combination_once():
    pairs = plan("base-to-novel", WORLD, ["coop", "vpt"], ["labels", "kdpl"], [1, 2, 3], **SMALL)
    jobs = [(j.learner, j.mode, j.seed) for j, _ in pairs]
    assert len(set(jobs)) == len(jobs) == 1 + 2 * 2 * 3 and jobs[0][0] == "zero-shot"
    assert {(e.kind, e.world) for _, e in pairs} == {("halves", WORLD)} and {j.classes for j, _ in pairs} == {"base"}
    assert all(j.recipe.epochs == 2 and j.recipe.seed == j.seed for j, _ in pairs[1:])
    domain = plan("domain", WORLD, ["coop"], ["kdpl"], [1])
    assert {(j.classes, e.kind) for j, e in domain} == {("all", "domains")}
    few = plan("few-shot", WORLD, ["coop"], ["labels"], [1], shots=[1, 4])
    assert [j.shots for j, _ in few] == [16, 1, 4]
    cross = plan("cross-dataset", WORLD, ["coop"], ["labels"], [1], targets=["emoji", "emoji/objects"])
    assert [(e.kind, e.world) for _, e in cross] == [("transfer", "emoji"), ("transfer", "emoji/objects")] * 2


def test_targets_by_default(monkeypatch):
    """The other groups of the emoji world, and the paper's ten for ImageNet."""
    others = {e.world for _, e in plan("cross-dataset", WORLD, ["coop"], ["labels"], [1])}
    assert len(others) == 5 and WORLD not in others and all(name.startswith("emoji/") for name in others)
    assert DATASETS["imagenet"].targets == TARGETS and len(TARGETS) == 10 and set(TARGETS) <= set(DATASETS)
    photos = replace(kd.load_world(WORLD), name="photos", targets=("emoji/objects",))
    monkeypatch.setattr(reproduce, "load_world", lambda name, root: photos if name == "photos" else kd.load_world(name))
    assert {e.world for _, e in plan("cross-dataset", "photos", ["coop"], ["labels"], [1])} == {"emoji/objects"}


def test_settings_go_to_the_mode_that_reads_them():
    jobs = [job for job, _ in plan("few-shot", WORLD, ["coop"], list(PAPER_MODES), [1], labelled=0.25)]
    picks = [job for job, _ in plan("few-shot", WORLD, ["coop"], list(PAPER_MODES), [1], k=5)]
    assert [(job.mode, job.k) for job in picks[1:]] == [("labels", 0), ("kdpl", 0), ("kdpl-ca", 5)]
    assert [(job.mode, job.labelled) for job in jobs[1:]] == [("labels", 0.0), ("kdpl", 0.25), ("kdpl-ca", 0.0)]


def test_published_recipes_are_the_default_on_photographs(tmp_path, monkeypatch):
    """A world of photographs without a single picture read: only its name and its models matter to a plan."""
    photos = replace(
        kd.load_world(WORLD),
        name="photos",
        student=("ViT-B-16-quickgelu", "openai"),
        transformer=None,
        recipes={},
        views=8,
        shots_as_published=True,
    )
    monkeypatch.setattr(reproduce, "load_world", lambda name, root: photos)
    jobs = {j.learner: j for j, _ in plan("domain", "photos", list(LEARNERS), ["kdpl"], [1])}
    assert (jobs["coop"].recipe, jobs["coop"].views) == (Recipe(50, 32, 2e-3, seed=1), 8)
    assert jobs["cocoop"].recipe == Recipe(10, 1, 2e-3, seed=1) and jobs["vpt"].recipe == Recipe(5, 4, 2.5e-3, seed=1)
    assert jobs["maple"].recipe == Recipe(5, 4, 3.5e-3, seed=1)
    assert jobs["promptsrc"].settings == {"depth": 3} and jobs["promptsrc"].recipe.average == (6, 10)
    base = {j.learner: j for j, _ in plan("base-to-novel", "photos", ["promptsrc"], ["kdpl"], [1])}["promptsrc"]
    assert base.settings == {} and base.recipe.average == (15, 1)
    assert jobs["coop"].student == ("ViT-B-16-quickgelu", "openai")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("best", WORLD, ["coop"], ["kdpl"], [1]), "no table 'best': choose from base-to-novel"),
        (("domain", WORLD, ["coup"], ["kdpl"], [1]), "no learner 'coup'"),
        (("domain", WORLD, ["coop"], ["label"], [1]), "no mode 'label'"),
    ],
)
def test_wrong_plans(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan(*arguments)


def test_a_world_without_targets_asks_for_them(monkeypatch):
    alone = replace(kd.load_world(WORLD), targets=())
    monkeypatch.setattr(reproduce, "load_world", lambda name, root: alone)
    with pytest.raises(ValueError, match=f"table of {WORLD} needs targets"):
        plan("cross-dataset", WORLD, ["coop"], ["kdpl"], [1])


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"student": ("no-such-model", None)}, "There is no model 'no-such-model'"),
        ({"student": ("ViT-B-32-quickgelu", "no-such-tag")}, "has no weights 'no-such-tag'"),
        ({"student": ("emoji-student-rn", "openai")}, "comes with its weights"),
        ({"teachers": [("ViT-L-14", "openai")]}, "disagree about QuickGELU"),
        (
            {"student": ("emoji-student-rn", None)},
            "vpt learns tokens in a vision transformer, and emoji-student-rn has",
        ),
        ({"k": 10**6}, "k = 1000000, and the dictionary of .* has [0-9]+ names"),
        ({"k": -1}, "k"),
        ({"shots": [-1]}, "shots"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_no_run_could_do_is_said_before_the_first(options, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        plan("base-to-novel", WORLD, ["coop", "vpt"], ["kdpl-ca"], [1], **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("modes, share", [(["kdpl"], 1.5), (["labels"], 0.5)])
def test_a_share_of_labels_that_makes_no_sense(modes, share):
    with pytest.raises(ValueError, match="share of labels, 0 to 1, that mode 'kdpl'"):
        plan("few-shot", WORLD, ["coop"], modes, [1], labelled=share)


def test_what_is_complete_is_not_done_again(lab, monkeypatch):
    pairs = plan("base-to-novel", WORLD, ["coop"], ["kdpl"], [3], **SMALL)
    run(pairs, lab.out, workers=1)
    assert all(is_complete(job, test, lab.out) for job, test in pairs)
    monkeypatch.setattr(module, "train_learner", lambda *a, **k: pytest.fail("trained again"))
    lines = []
    run(pairs, lab.out, workers=1, report=lines.append)
    assert lines == ["0 of 2 runs are to be done."]


def test_one_training_serves_all_its_tests(lab, monkeypatch):
    trained = []
    plain = module.train_learner
    monkeypatch.setattr(module, "train_learner", lambda *a, **k: trained.append(1) or plain(*a, **k))
    targets = ["emoji/animals-nature", "emoji/objects"]
    cross = plan("cross-dataset", WORLD, ["coop"], ["labels"], [1], targets=targets, **SMALL)
    run([*cross, *plan("domain", WORLD, ["coop"], ["labels"], [1], **SMALL)], lab.out, workers=1)
    assert trained == [1]
    row = table_rows(cross, lab.out)[1]
    assert float(row["average"]) == pytest.approx((float(row[targets[0]]) + float(row[targets[1]])) / 2, abs=0.051)
    domain = table_rows(plan("domain", WORLD, ["coop"], ["labels"], [1], **SMALL), lab.out)
    assert set(lab.world(WORLD).shifts) < set(domain[0]) and domain[0]["method"] == "zero-shot"


def command(out, *more):
    few = ["--learner", "coop", "--seeds", "2", "--shots", "2", "--epochs", "2", "--lr", "0.05", "--workers", "1"]
    return ["reproduce", "--world", WORLD, *few, "--out", str(out), *more]


def test_killed_three_times_the_table_is_the_same(tmp_path, capsys):
    """Killed without warning at random moments, then left alone: the scores are those of an undisturbed run."""
    assert main(command(tmp_path / "calm")) == 0
    rng = random.Random(time.time_ns())
    program = [sys.executable, "-m", "kdpl_utils.apps.cli", *command(tmp_path / "killed")]
    for _ in range(3):
        process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(4, 12))
        process.kill()
        process.wait()
    assert main(command(tmp_path / "killed")) == 0
    options = {"epochs": 2, "lr": 0.05, "shots": [2]}
    pairs = plan("base-to-novel", WORLD, ["coop"], list(PAPER_MODES), [1, 2], **options)
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


def test_the_command_prints_its_table_beside_the_papers(tmp_path, capsys):
    assert main(command(tmp_path, "--mode", "labels", "--table", "domain")) == 0
    printed = capsys.readouterr().out
    assert "| CoOp | labels | 2 | 2 |" in printed and "(paper, not run here)" in printed and "| 49.90 |" in printed


def test_several_worlds_have_a_table_each_and_their_average(tmp_path, capsys):
    assert main(command(tmp_path, "--mode", "labels", "--seeds", "1", "--world", WORLD, "emoji/travel-places")) == 0
    printed = capsys.readouterr().out
    for what in (WORLD, "emoji/travel-places", "average of 2 data sets"):
        assert f"base-to-novel, {what}, top-1" in printed
    tables = [[r for r in t.splitlines() if r.startswith("| CoOp | labels")][0] for t in printed.split("top-1")[1:4]]
    base = [float(row.split("|")[5]) for row in tables]
    assert base[2] == pytest.approx((base[0] + base[1]) / 2, abs=0.101)  # all three are rounded


def test_wrong_commands_are_one_sentence(tmp_path, capsys):
    assert main(["reproduce", "--world", "nowhere", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "There is no world 'nowhere'" in error and len(error.splitlines()) == 1 and not list(tmp_path.iterdir())
    assert main(command(tmp_path, "--targets", "nowhere", "--table", "cross-dataset")) == 2
    assert "There is no world 'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "world", [r"C:\pictures\cats", "C:/pictures/cats", "/home/me/cats?", "train-{000..146}.tar", ".."]
)
def test_a_world_named_by_a_path_stays_in_the_folder(world, tmp_path):
    ((_, _), (job, evaluation)) = plan("base-to-novel", WORLD, ["coop"], ["kdpl"], [1], **SMALL)
    file = replace(evaluation, world=world).file(replace(job, world=world), tmp_path)
    assert file.is_relative_to(tmp_path) and len(file.relative_to(tmp_path).parts) == 3
    assert not set(r'\:*?"<>|{}') & set(str(file.relative_to(tmp_path)))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_failed_run_leaves_the_others_and_their_table(workers, tmp_path, capsys):
    options = ["--mode", "labels", "--learner", "coop", "vpt", "--seeds", "1", "--workers", workers]
    few = {"epochs": 2, "lr": 0.05, "shots": [2]}
    job = plan("base-to-novel", WORLD, ["vpt"], ["labels"], [1], **few)[-1][0]
    job.folder(tmp_path).parent.mkdir()
    job.folder(tmp_path).write_text("in the way")
    assert main(command(tmp_path, *options)) == 1
    printed = capsys.readouterr()
    assert "| CoOp | labels | 2 | 1 |" in printed.out and "| VPT |" not in printed.out
    assert "1 of 3 runs failed (vpt-labels" in printed.err and "a file is in the place of its folder" in printed.err
    (trace,) = (tmp_path / "failed").glob("vpt-*.txt")
    assert "Traceback" in trace.read_text()


def test_what_went_wrong_once_is_gone_when_it_goes_well(tmp_path, monkeypatch):
    pairs = plan("few-shot", WORLD, ["coop"], ["labels"], [1], shots=[1], **SMALL)
    score = Lab.score

    def fail_when_trained(self, job, evaluation, wait):
        if job.learner == "coop":
            raise OSError("the disk is away")
        return score(self, job, evaluation, wait)

    monkeypatch.setattr(Lab, "score", fail_when_trained)
    with pytest.raises(RunsFailed, match="the disk is away"):
        run(pairs, tmp_path, workers=1)
    assert len(list((tmp_path / "failed").iterdir())) == 1
    monkeypatch.setattr(Lab, "score", score)
    run(pairs, tmp_path, workers=1)
    assert not list((tmp_path / "failed").iterdir())


def test_all_runs_failing_for_one_reason_are_that_sentence(tmp_path, capsys):
    options = ["--mode", "labels", "--learner", "coop", "--student", "no-such-model", "--workers", "1"]
    assert main(command(tmp_path, *options)) == 2
    error = capsys.readouterr().err
    assert "There is no model 'no-such-model'" in error and len(error.splitlines()) == 1


def test_runs_that_all_fail_for_one_reason_raise_it(tmp_path, monkeypatch):
    """It is what the user has to read; each of them is noted all the same."""
    pairs = plan("few-shot", WORLD, ["coop"], ["labels"], [1, 2], shots=[1], **SMALL)

    def fail(self, job, evaluation, wait):
        raise OSError("the disk is away")

    monkeypatch.setattr(Lab, "score", fail)
    with pytest.raises(OSError, match="^the disk is away$"):
        run(pairs, tmp_path, workers=1)
    assert len(list((tmp_path / "failed").iterdir())) == len({job.folder(tmp_path) for job, _ in pairs})


def side_by_side(monkeypatch, tmp_path, *outcomes):
    """Two runs in workers of which the first gives these errors, one after the other; what each was asked."""
    pairs = plan("few-shot", WORLD, ["coop"], ["labels"], [1], shots=[1], **SMALL)
    asked, waiting = [], list(outcomes)

    class Pool:
        def __init__(self, workers, context, start, arguments):
            assert workers == 2

        def submit(self, function, job, evaluations, wait):
            future = Future()
            asked.append((job.learner, wait))
            if job.learner == "coop" and waiting:
                future.set_exception(waiting.pop(0))
            else:
                future.set_result(None)
            return future

        def shutdown(self, **how):
            pass

    monkeypatch.setattr(run_module, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(run_module, "check_main_guard", lambda: None)
    run(pairs, tmp_path, workers=2)
    return asked


def test_what_another_command_is_at_is_asked_for_once_more(tmp_path, monkeypatch):
    """First without waiting; at the end it is waited for."""
    asked = side_by_side(monkeypatch, tmp_path, Busy("somebody is at it"))
    assert asked == [("zero-shot", False), ("coop", False), ("coop", True)]


def test_a_worker_without_room_ends_all_runs(tmp_path, monkeypatch):
    with pytest.raises(DiskFull, match="no room"):
        side_by_side(monkeypatch, tmp_path, DiskFull("no room"))
    assert not (tmp_path / "failed").exists()


def test_a_worker_that_the_system_ended_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(RunsFailed, match="ended without a word.* with fewer --workers; what is complete is kept"):
        side_by_side(monkeypatch, tmp_path, BrokenProcessPool("a process was terminated abruptly"))


def test_workers_of_a_notebook_need_no_main_guard(monkeypatch):
    """What is typed there lies in no file that a worker could read again."""
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    run_module.check_main_guard()
