"""Jobs on a cluster: sent once, watched, missed when lost; on a real one-node Slurm where there is one.

``tests/one_node_slurm.sh start`` makes one on Debian; with KDPL_REQUIRE_SLURM its absence is a failure.
"""

import contextlib
import itertools
import json
import os
import shutil
import stat
import subprocess
import time

import pytest

from kdpl_utils.apps.cli import _slurm_options, main
from kdpl_utils.experiments import slurm as cluster
from kdpl_utils.experiments.plan import plan
from kdpl_utils.experiments.run import run
from kdpl_utils.experiments.slurm import RunsFailed, on_cluster
from kdpl_utils.experiments.tables import table_rows
from kdpl_utils.experiments.training import Evaluation, Training
from kdpl_utils.train import Recipe

pytest.importorskip("submitit")
WORLD = "emoji/activities"
SMALL = {"epochs": 2, "lr": 0.05, "shots": [2]}
pytestmark = pytest.mark.timeout(300)  # what waits for a queue could wait for ever


def unit(seed):
    return Training(WORLD, "coop", "labels", seed, ("emoji-student-vit", None), (), Recipe()), [
        Evaluation("test", WORLD, "x")
    ]


def complete(one, out):
    """What a job leaves: the record of its training and its scores."""
    training, evaluations = one
    for evaluation in evaluations:
        evaluation.file(training, out).parent.mkdir(parents=True, exist_ok=True)
        evaluation.file(training, out).write_text(json.dumps({"top-1": 1.0}))
    (training.folder(out) / "training.json").write_text(json.dumps({"seconds": 1.0}))


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A command that prints what a test writes into a file."""
    program, answer = tmp_path / "bin" / "squeue", tmp_path / "answer"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat {answer}\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    answer.write_text("")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setitem(cluster.POLL, "slurm", 0.01)
    return answer


@pytest.fixture
def sent(monkeypatch):
    """Jobs go nowhere; the seeds that would have been sent."""
    seeds = []

    class Executor:
        def batch(self):
            return contextlib.nullcontext()

        def submit(self, function, job, evaluations, out, root):
            seeds.append(job.seed)
            return type("Job", (), {"job_id": f"7_{job.seed}"})

    monkeypatch.setattr(cluster, "_executor", lambda *arguments: Executor())
    return seeds


def watch(todo, out, report=lambda line: None):
    return on_cluster(todo, out, None, 2, "slurm", {}, report)


def test_the_queue_is_read_as_slurm_prints_it(squeue):
    squeue.write_text("7_1|RUNNING|None\n7_2|PENDING|Resources\n8|PENDING|PartitionConfig\n")
    queue = cluster._queue()
    assert (queue["7_1"], queue["7_2"]) == ("running", "waiting (Resources)")
    assert "no node can give what they ask for" in queue["8"]


def test_complete_runs_are_named_and_lost_ones_missed(squeue, sent, tmp_path):
    """Seed 1 writes its scores, seed 2 leaves the queue without: the first is reported, the second an error."""
    first, second = unit(1), unit(2)
    squeue.write_text("7_1|RUNNING|None\n7_2|RUNNING|None\n")
    lines = []
    results = watch([first, second], tmp_path / "out", lines.append)
    complete(first, tmp_path / "out")
    assert next(results) == first[0].folder(tmp_path / "out").name and sent == [1, 2]
    squeue.write_text("")
    with pytest.raises(RunsFailed, match=r"^1 jobs ended without their scores \(coop-labels.*seed2.*tries them again"):
        list(results)


def test_scores_that_come_late_are_not_lost(squeue, sent, tmp_path, monkeypatch):
    """The job has left the queue, and its files are seen at the third look."""
    one, looks, plain = unit(1), [], cluster._queue

    def look():
        looks.append(1)
        if len(looks) == 3:
            complete(one, tmp_path)
        return plain()

    monkeypatch.setattr(cluster, "_queue", look)
    assert list(watch([one], tmp_path)) == [one[0].folder(tmp_path).name]


def test_a_job_still_queued_is_not_sent_again(squeue, sent, tmp_path):
    one = unit(1)
    squeue.write_text("7_1|PENDING|Resources\n")
    first, lines = watch([one], tmp_path), []
    complete(one, tmp_path)
    list(first)
    one[1][0].file(one[0], tmp_path).unlink()  # as if it still ran, and the command had been killed
    again = watch([one], tmp_path, lambda line: lines.append(line) or complete(one, tmp_path))
    assert list(again) and sent == [1] and lines == ["Jobs: 1 waiting (Resources)"]
    one[1][0].file(one[0], tmp_path).unlink()
    squeue.write_text("")
    with pytest.raises(RunsFailed):
        list(watch([one], tmp_path))
    assert sent == [1, 1]  # no longer queued: sent again


def test_a_controller_that_is_away_for_a_moment_loses_no_job(squeue, sent, tmp_path, monkeypatch):
    one, lines, plain = unit(1), [], cluster._queue

    def away():
        raise OSError("Slurm does not answer: Unable to contact slurm controller")

    answers = iter([plain, away])
    monkeypatch.setattr(cluster, "_queue", lambda: next(answers, plain)())
    found = watch([one], tmp_path, lambda line: lines.append(line) or complete(one, tmp_path))
    assert list(found) == [one[0].folder(tmp_path).name] and "Unable to contact" in lines[0]


@pytest.fixture
def ticks(monkeypatch):
    """A minute passes whenever somebody looks at the clock."""
    clock = itertools.count(0, 60)
    monkeypatch.setattr(cluster.time, "monotonic", lambda: next(clock))


def silent():
    raise OSError("Slurm does not answer: Unable to contact slurm controller.")


def test_a_slurm_that_starts_is_waited_for(squeue, sent, ticks, tmp_path, monkeypatch):
    one, lines, plain = unit(1), [], cluster._queue
    complete(one, tmp_path)
    answers = iter([silent, silent])
    monkeypatch.setattr(cluster, "_queue", lambda: next(answers, plain)())
    assert list(watch([one], tmp_path, lines.append)) == [one[0].folder(tmp_path).name]
    assert lines == ["Slurm does not answer: Unable to contact slurm controller. Waiting for it."]


def test_a_slurm_that_never_answers_is_a_sentence(squeue, sent, ticks, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_queue", silent)
    with pytest.raises(OSError, match="does not answer.*It was asked for 180 s: see sinfo, and try again"):
        list(watch([unit(1)], tmp_path))
    assert sent == []


def test_a_command_of_slurm_that_hangs_is_given_up(squeue, monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.2)
    (squeue.parent / "bin" / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(OSError, match="Slurm does not answer: squeue was silent"):
        cluster._queue()


def test_a_slurm_that_falls_silent_is_left_to_its_jobs(squeue, sent, ticks, tmp_path, monkeypatch):
    answers, lines, plain = iter([cluster._queue]), [], silent
    monkeypatch.setattr(cluster, "_queue", lambda: next(answers, plain)())
    with pytest.raises(RunsFailed, match="silent for 30 minutes; its jobs go on, and the same command waits for them"):
        list(watch([unit(1)], tmp_path, lines.append))
    assert sent == [1] and len(lines) == 1  # said once


def test_without_slurm_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    command = ["reproduce", "--world", WORLD, "--out", str(tmp_path / "o"), "--cluster", "slurm", "--seeds", "1"]
    assert main(command) == 2
    assert "There is no Slurm on this machine (squeue is missing): leave --cluster out." in capsys.readouterr().err


def test_what_a_job_asks_for():
    given = ["partition=gpu", "gpus_per_node=1", "mem_gb=32", "array_parallelism=4"]
    expected = {"slurm_partition": "gpu", "gpus_per_node": 1, "mem_gb": 32, "slurm_array_parallelism": 4}
    assert _slurm_options(given) == expected
    for wrong in ("gpu", "=gpu", "partition="):
        with pytest.raises(ValueError, match=f"--slurm {wrong}: write KEY=VALUE"):
            _slurm_options([wrong])


def test_an_option_that_there_is_not(tmp_path):
    with pytest.raises(ValueError, match="cannot be asked for .*nonsense"):
        list(on_cluster([unit(1)], tmp_path, None, 1, "local", {"nonsense": 1}, lambda line: None))


def test_processes_of_this_machine_give_the_same(tmp_path):
    """Through submitit's executor for this machine: the same pickled jobs that Slurm would run."""
    pairs = plan("base-to-novel", WORLD, ["coop"], ["labels"], [1], **SMALL)
    assert tables_after(pairs, tmp_path, cluster="local") == tables_after(pairs, tmp_path)
    assert list((tmp_path / "local" / "cluster").glob("*_result.pkl"))


def tables_after(pairs, out, **how):
    folder = out / how.get("cluster", "here")
    run(pairs, folder, workers=2 if how else 1, **how)
    return [{c: v for c, v in row.items() if not c.startswith("seconds")} for row in table_rows(pairs, folder)]


def answers_in_time(command, is_answer, seconds):
    """Ask again until a daemon answers: on a machine that is starved it may take a minute."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        if answer.returncode == 0 and is_answer(answer.stdout):
            return True
        time.sleep(1)
    return False


@pytest.fixture
def slurm():
    is_required = "KDPL_REQUIRE_SLURM" in os.environ
    there = shutil.which("squeue") and answers_in_time(["sinfo"], bool, 180 if is_required else 10)
    if not there and not is_required:
        pytest.skip("There is no Slurm here: tests/one_node_slurm.sh start makes one.")
    assert there, "KDPL_REQUIRE_SLURM is set, and sinfo did not answer within 180 s."


def test_a_daemon_is_asked_until_it_answers_or_the_time_is_over(tmp_path):
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\ntest -e {tmp_path}/asked && echo idle\ntouch {tmp_path}/asked\n")
    slow.chmod(0o755)
    assert answers_in_time([str(slow)], bool, 30)
    assert not answers_in_time(["false"], bool, 0.1)
    assert not answers_in_time(["sleep", "60"], bool, 0.1)


def test_a_real_slurm_gives_the_same(slurm, tmp_path):
    """A job is cancelled, which is said; the same command again does what is missing: the table is the usual one."""
    pairs = plan("base-to-novel", WORLD, ["coop"], ["labels"], [1], **SMALL)
    lines = []

    def report(line):
        lines.append(line)
        if "running" in line and len(lines) < 5:
            number = next((tmp_path / "slurm").rglob("coop*/cluster-job.txt")).read_text()
            subprocess.run(["scancel", number], check=True)

    with pytest.raises(RunsFailed, match="1 jobs ended without their scores .coop"):
        run(pairs, tmp_path / "slurm", cluster="slurm", report=report)
    assert "asks Slurm for" in lines[1]
    queue = ["squeue", "--me", "--noheader"]
    assert answers_in_time(queue, lambda jobs: not jobs.strip(), 60), "The cancelled job did not leave the queue."
    assert tables_after(pairs, tmp_path, cluster="slurm") == tables_after(pairs, tmp_path)
