"""Many runs: in one process, in several, and as jobs give the same tables; what fails or is stopped costs no other."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from kdpl_utils.experiments import RunsFailedError, slurm
from kdpl_utils.experiments.plan import plan
from kdpl_utils.experiments.run import run
from kdpl_utils.experiments.runner import finished
from kdpl_utils.experiments.tables import table_rows

SMALL = {"epochs": 2, "lr": 0.05, "shots": [2], "views": 0, "student": "emoji-student-vit"}
SMALL["teachers"] = ["emoji-teacher-small"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four classes of six training and four test images."""
    place = tmp_path_factory.mktemp("photos")
    for i in range(40):
        file = place / ("train" if i < 24 else "test") / ("ash", "elm", "fir", "oak")[i % 4] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((64, 64), 20 + 60 * (i % 4) + i).convert("RGB").save(file)
    return str(place)


def plan_of(folder, learners=("coop",), seeds=(1,), mode="labels", **options):
    return plan("base-to-novel", folder, learners, [mode], seeds, **{**SMALL, **options})


def table_after(folder, out, **how):
    pairs = plan_of(folder, seeds=[1, 2])
    run(pairs, out, **how)
    return [{c: v for c, v in row.items() if not c.startswith("seconds")} for row in table_rows(pairs, out)]


def test_one_process_two_and_jobs_give_the_same(folder, tmp_path):
    pytest.importorskip("submitit")
    lines = []
    one = table_after(folder, tmp_path / "one", report=lines.append)
    assert [row["seeds"] for row in one] == ["1", "2"] and lines[0] == "3 of 3 runs are to be done."
    assert len(lines) == 4 and lines[-1].startswith("3 of 3: coop-labels-base-2shots-seed2-")
    assert table_after(folder, tmp_path / "two", workers=2) == one
    assert table_after(folder, tmp_path / "jobs", cluster="local") == one
    assert len(list((tmp_path / "jobs" / "cluster").glob("*_result.pkl"))) == 3
    lines.clear()
    assert table_after(folder, tmp_path / "one", report=lines.append) == one
    assert lines == ["0 of 3 runs are to be done."]


@pytest.mark.parametrize("how", [{}, {"workers": 2}, {"cluster": "local"}])
def test_a_failed_run_leaves_the_others(how, folder, tmp_path):
    pairs = plan_of(folder, ["coop", "cocoop"])
    failing = pairs[-1][0].folder(tmp_path)
    (failing / "learned.safetensors").mkdir(parents=True)  # a folder in the place of its file
    with pytest.raises(RunsFailedError, match=f"1 of 3 runs failed, the first of them {failing.name}"):
        run(pairs, tmp_path, **how)
    assert [row["method"] for row in table_rows(pairs, tmp_path)] == ["zero-shot", "CoOp"]
    assert "Traceback" in (tmp_path / "failed" / f"{failing.name}.txt").read_text()
    (failing / "learned.safetensors").rmdir()
    run(pairs, tmp_path)
    assert all(finished(*pair, tmp_path) for pair in pairs)


PROGRAM = """
import signal, sys
from kdpl_utils.experiments.plan import plan
from kdpl_utils.experiments.run import run
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    options = {"epochs": 100000, "student": "emoji-student-vit", "teachers": ["emoji-teacher-small"], "views": 0}
    pairs = plan("base-to-novel", sys.argv[2], ["coop"], ["labels"], range(1, 9), shots=[3], **options)
    try:
        run(pairs, sys.argv[1], workers=2, report=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="process groups")
@pytest.mark.parametrize("stopped_by", ["Ctrl-C", "kill"])
def test_workers_end_with_their_parent(stopped_by, folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, script, tmp_path / "out", folder], start_new_session=True, **pipes)
    assert process.stdout.readline() == "9 of 9 runs are to be done.\n"
    assert process.stdout.readline().startswith("1 of 9: zero-shot")  # the workers are at the next ones
    if stopped_by == "kill":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all
    printed, errors = process.communicate(timeout=600)
    assert stopped_by == "kill" or (printed.endswith("stopped\n") and errors == "" and process.returncode == 0)
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("A worker is still running.")


@pytest.fixture
def cluster(monkeypatch):
    """In Slurm's place a record of what was asked for and what was sent; jobs stay queued."""
    submitit = pytest.importorskip("submitit")
    asked = {}
    sent = []

    class Handle:
        state = "PENDING"

        def __init__(self, folder, job_id):
            self.job_id = job_id

    class Executor:
        job_class = Handle
        folder = None
        update_parameters = staticmethod(lambda **parameters: asked.update(parameters))
        batch = staticmethod(contextlib.nullcontext)

        def __init__(self, folder, cluster):
            self._executor = self

        def submit(self, job):
            sent.append(job)
            return Handle(None, f"7_{len(sent)}")

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    monkeypatch.setattr(submitit.helpers, "as_completed", lambda handles, poll_frequency: iter(()))
    return asked, sent


def test_a_job_asks_for_a_gpu_where_models_are_of_real_size(cluster, folder, tmp_path, monkeypatch):
    asked, _ = cluster
    fetched = []
    monkeypatch.setattr(slurm, "load_vlm", lambda *model, device: fetched.append(model))
    for teacher, gpus in (("emoji-teacher-small", 0), ("ViT-L-14-quickgelu/openai", 1)):
        pairs = plan_of(folder, mode="kdpl", teachers=[teacher])
        run(pairs, tmp_path / teacher[:5], cluster="slurm", options={"slurm_partition": "long"})
        assert asked["gpus_per_node"] == gpus and asked["slurm_partition"] == "long"
    assert ("ViT-L-14-quickgelu", "openai") in fetched  # a node may have no network


def test_a_job_that_is_queued_is_not_sent_again_and_one_at_its_limit_is(cluster, folder, tmp_path):
    _, sent = cluster
    pairs = plan_of(folder, mode="kdpl")
    for _ in range(2):
        run(pairs, tmp_path, cluster="slurm")
    assert len(sent) == 2
    sent[1].__submitit_checkpoint__().result()
    assert finished(*pairs[1], tmp_path)
