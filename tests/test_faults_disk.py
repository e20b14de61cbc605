"""What can go wrong with files, processes and disks: the sentence that is said, and what is kept."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from faults import Fault, pattern
from safetensors import SafetensorError
from safetensors.torch import save_file

from kdpl_utils.apps.cli import main
from kdpl_utils.experiments import lab as lab_module
from kdpl_utils.experiments.cache import FeatureCache
from kdpl_utils.experiments.lab import Lab
from kdpl_utils.experiments.plan import is_complete, plan
from kdpl_utils.experiments.run import check_main_guard, run
from kdpl_utils.experiments.tables import table_rows
from kdpl_utils.support import disk, locks
from kdpl_utils.support.disk import DiskFull, read_json, write_json, write_whole
from kdpl_utils.support.locks import Busy, alone
from kdpl_utils.support.tensors import read_tensors, write_tensors

WORLD = "emoji/activities"
SMALL = {"epochs": 2, "lr": 0.05, "shots": [2]}


# --- a full disk, a folder that cannot be written ------------------------------------------------------------------


def out_of_room(part):
    part.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def out_of_room_as_safetensors_says_it(part):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def over_the_quota(part):
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def read_only(part):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def not_allowed(part):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


NO_ROOM = "There is no room left on the disk of … to write kept.json: make some … what was complete is kept."
CANNOT = "…/kept.json cannot be written ({}): choose another folder, or make this one writable."
LAST_STAYS = "the file that was there before, and nothing beside it"
WRITES = {
    "a full disk": Fault(out_of_room, NO_ROOM, LAST_STAYS),
    "a full disk, in the words of safetensors": Fault(out_of_room_as_safetensors_says_it, NO_ROOM, LAST_STAYS),
    "a quota": Fault(over_the_quota, NO_ROOM, LAST_STAYS),
    "a read-only disk": Fault(read_only, CANNOT.format("read-only file system"), LAST_STAYS),
    "a folder of somebody else": Fault(not_allowed, CANNOT.format("permission denied"), LAST_STAYS),
}


@pytest.mark.parametrize("case", WRITES)
def test_a_write_that_fails_is_one_sentence_and_leaves_what_was_there(case, tmp_path):
    write, sentence, _ = WRITES[case]
    path = write_json(tmp_path / "kept.json", {"good": 1})
    with pytest.raises(OSError) as error:
        write_whole(path, write)
    assert re.fullmatch(pattern(sentence), str(error.value))
    assert read_json(path) == {"good": 1} and [entry.name for entry in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize("number, is_written", [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_disk_that_cannot_flush_is_written_to_and_a_broken_one_is_not(number, is_written, tmp_path, monkeypatch):
    """As some network disks; an error of input and output is another matter, and passes as it is."""
    path = write_json(tmp_path / "kept.json", {"good": 1})

    def flush(opened):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk.os, "fsync", flush)
    try:
        write_json(path, {"good": 2})
    except OSError as error:
        assert error.errno == number
    assert read_json(path) == {"good": 2 if is_written else 1} and len(list(tmp_path.iterdir())) == 1


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "results").write_text("the user's")
    with pytest.raises(OSError, match=r"scores.json cannot be written \(a file is in the place of its folder\)"):
        write_json(tmp_path / "results" / "scores.json", {})
    assert (tmp_path / "results").read_text() == "the user's"


@pytest.fixture
def small_disk(tmp_path):
    """A real disk of 64 KiB, where this user may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("Only root can mount a small disk.")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)  # the error of a failed write may still hold its file


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("save", [save_file, torch.save], ids=["safetensors", "torch.save"])
def test_a_disk_that_really_is_full(save, small_disk):
    path = write_json(small_disk / "kept.json", {"good": 1})
    with pytest.raises(DiskFull, match=pattern(NO_ROOM)):
        write_whole(path, lambda part: save({"a": torch.zeros(10**5)}, part))
    assert read_json(path) == {"good": 1} and [entry.name for entry in small_disk.iterdir()] == ["kept.json"]


# --- what killed processes leave -----------------------------------------------------------------------------------


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def temporary(name, host=None, process=None, letters="abcdefgh"):
    return f".{name}.{host or disk._host()}.{process or dead_process()}.{letters}.part"


DAY = 24 * 3600 + 60
GONE, STAYS = "it is removed", "it stays"
LEFT = {  # the name of a temporary file, and how old it is
    "a temporary file of a killed process": Fault(lambda: (temporary("a.json"), 0), (), GONE),
    "one of a process that still writes": Fault(lambda: (temporary("a.json", process=os.getpid()), DAY), (), STAYS),
    "one of another host, old": Fault(lambda: (temporary("a.json", host="elsewhere"), DAY), (), GONE),
    "one of another host, new": Fault(lambda: (temporary("a.json", host="elsewhere"), 0), (), STAYS),
    "one of another host, from the future: a clock was set back": Fault(
        lambda: (temporary("a.json", host="elsewhere"), -DAY), (), GONE
    ),
    "a file of the user's that is called nearly so": Fault(lambda: (".a.json.part", DAY), (), STAYS),
}


@pytest.mark.parametrize("case", LEFT)
@pytest.mark.parametrize("how", ["the same file is written", "a run is started"])
def test_temporary_files_are_removed_when_nobody_writes_them(how, case, tmp_path):
    name, age = LEFT[case].given()
    (tmp_path / name).write_text("half")
    os.utime(tmp_path / name, (time.time() - age,) * 2)
    if how == "a run is started":
        Lab(tmp_path)
    else:
        write_json(tmp_path / "a.json", {})
    assert (STAYS if (tmp_path / name).exists() else GONE) == LEFT[case].kept


def test_what_others_left_in_a_folder_to_read_from_stays(tmp_path, monkeypatch):
    """As results on a disk that is mounted for reading: they are shown all the same."""
    kept = write_json(tmp_path / "kept.json", {"good": 1})
    left = tmp_path / temporary("a.json")
    left.write_text("half")

    def refuse(path, missing_ok=False):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refuse)
    Lab(tmp_path)
    assert left.exists() and read_json(kept) == {"good": 1}


def test_a_process_of_another_user_is_alive(tmp_path, monkeypatch):
    def not_allowed_to_ask(process, signal_number):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    left = tmp_path / temporary("a.json")
    left.write_text("half")
    monkeypatch.setattr(disk.os, "kill", not_allowed_to_ask)
    Lab(tmp_path)
    assert left.exists()


def test_a_temporary_file_names_its_host_and_process(tmp_path):
    names = []
    for _ in range(2):
        write_whole(tmp_path / "a", lambda part: names.append(part.name) or part.write_text("x"))
    found = [disk.TEMPORARY.fullmatch(name) for name in names]
    assert all(f["name"] == "a" and f["host"] == disk._host() and int(f["process"]) == os.getpid() for f in found)
    assert names[0] != names[1]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace_file = os.fsync, os.replace
    monkeypatch.setattr(disk.os, "fsync", lambda opened: done.append("flushed") or fsync(opened))
    monkeypatch.setattr(disk.os, "replace", lambda *paths: done.append("named") or replace_file(*paths))
    write_whole(tmp_path / "a", lambda part: part.write_text("x"))
    assert done[:2] == ["flushed", "named"]


# --- what is damaged is named and made again -----------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def empty(path):
    path.write_bytes(b"")


def change(path):
    """One bit, where a number stands."""
    content = bytearray(path.read_bytes())
    content[-25] ^= 1
    path.write_bytes(content)


def replace_by_text(path):
    path.write_text("<html>not found</html>")


def remove(path):
    path.unlink()


DAMAGES = {"is cut": cut, "is empty": empty, "has one bit changed": change, "is another page": replace_by_text}
MADE_AGAIN = "all others; this one is made again"
JSON_DAMAGED = "scores.json is damaged (cut short or changed): it is made again."
TENSORS_DAMAGED = "…/features.safetensors is damaged"
DAMAGED_JSON = {
    f"a file of scores that {how}": Fault(damage, JSON_DAMAGED, MADE_AGAIN) for how, damage in DAMAGES.items()
}
DAMAGED_TENSORS = {
    f"a file of features that {how}": Fault(damage, TENSORS_DAMAGED, MADE_AGAIN) for how, damage in DAMAGES.items()
}


@pytest.mark.parametrize("case", DAMAGED_JSON)
def test_damaged_json_is_named_and_not_there(case, tmp_path):
    damage, sentence, _ = DAMAGED_JSON[case]
    path = write_json(tmp_path / "scores.json", {"base": 71.25, "novel": float("nan"), "pair": (1, 2)})
    other = write_json(tmp_path / "other.json", {"base": 1})
    assert read_json(path)["base"] == 71.25
    damage(path)
    with pytest.warns(UserWarning, match=pattern(sentence)):
        assert read_json(path) is None
    write_json(path, {"base": 71.25})
    assert read_json(path) == {"base": 71.25} and read_json(other) == {"base": 1}


@pytest.mark.parametrize("case", DAMAGED_TENSORS)
def test_damaged_tensors_are_named(case, tmp_path):
    damage, sentence, _ = DAMAGED_TENSORS[case]
    path = write_tensors(tmp_path / "features.safetensors", {"a": torch.arange(50.0)}, {"key": "x"})
    header, tensors = read_tensors(path)
    assert header == {"key": "x"} and torch.equal(tensors["a"], torch.arange(50.0))
    damage(path)
    with pytest.raises(disk.Damaged, match=pattern(sentence)):
        read_tensors(path)


@pytest.mark.parametrize("case", DAMAGED_TENSORS)
def test_of_damaged_features_none_but_they_are_made_again(case, tmp_path):
    made = []

    def make(rows):
        made.append(rows)
        return torch.arange(3.0)

    cache = FeatureCache(tmp_path)
    cache.tensor(("mine",), 3, make)
    cache.tensor(("another",), 3, make)
    path = next(path for path in tmp_path.glob("*.safetensors") if read_tensors(path)[0]["key"] == "mine")
    DAMAGED_TENSORS[case].given(path)
    with pytest.warns(UserWarning, match="is damaged"):
        assert torch.equal(cache.tensor(("mine",), 3, make), torch.arange(3.0)) and len(made) == 3
    assert torch.equal(cache.tensor(("another",), 3, make), torch.arange(3.0)) and len(made) == 3


def test_files_of_earlier_versions_have_no_checksum_and_are_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"base": 1.0}))
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", {"key": "x"})
    assert read_json(tmp_path / "a.json") == {"base": 1.0}
    assert read_tensors(tmp_path / "a.safetensors")[0] == {"key": "x"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A complete training of CoOp with its scores; the pairs, the folder, the table."""
    out = tmp_path_factory.mktemp("done")
    pairs = plan("base-to-novel", WORLD, ["coop"], ["labels"], [1], **SMALL)[1:]
    run(pairs, out, workers=1)
    return pairs, out, without_seconds(table_rows(pairs, out))


def without_seconds(rows):
    return [{column: value for column, value in row.items() if not column.startswith("seconds")} for row in rows]


@pytest.mark.parametrize("damage", [*DAMAGES.values(), remove])
@pytest.mark.parametrize("what", ["scores", "training.json", "learned.safetensors"])
@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_a_damaged_file_of_a_run_is_made_again_with_the_same_numbers(what, damage, done):
    pairs, out, table = done
    ((job, evaluation),) = pairs
    damage(evaluation.file(job, out) if what == "scores" else job.folder(out) / what)
    if what == "learned.safetensors":  # the scores are there: it is missed when somebody asks for it
        assert is_complete(job, evaluation, out)
        Lab(out).learner(job)
    elif damage is not remove:
        assert not is_complete(job, evaluation, out)
    run(pairs, out, workers=1)
    assert without_seconds(table_rows(pairs, out)) == table


def test_only_what_is_damaged_is_made_again(done, monkeypatch):
    pairs, out, table = done
    ((job, evaluation),) = pairs
    empty(evaluation.file(job, out))
    monkeypatch.setattr(lab_module, "train_learner", lambda *a, **k: pytest.fail("trained again"))
    with pytest.warns(UserWarning, match=f"{evaluation.file(job, out).name} is damaged"):
        run(pairs, out, workers=1)
    assert without_seconds(table_rows(pairs, out)) == table


def test_a_table_leaves_out_what_is_damaged(done, tmp_path):
    pairs, _, _ = done
    ((job, evaluation),) = pairs
    other = replace(job, seed=7)
    evaluation.file(other, tmp_path).parent.mkdir(parents=True)
    evaluation.file(other, tmp_path).write_text('{"base": 7')
    with pytest.warns(UserWarning, match="is damaged"):
        assert table_rows([(other, evaluation)], tmp_path) == []


# --- one at a time -------------------------------------------------------------------------------------------------


@pytest.fixture
def unscored(monkeypatch):
    """Trainings are judged by nothing, which takes no time."""
    monkeypatch.setattr(Lab, "_score", lambda self, learner, evaluation: {"base": 1.0, "novel": 1.0, "H": 1.0})


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)


def test_who_waits_is_told_for_whom(impatient, tmp_path):
    lines, order, is_held = [], [], threading.Event()

    def first():
        with alone(tmp_path / "a.lock", "training coop-seed1"):
            is_held.set()
            while not lines:
                time.sleep(0.01)
            order.append("first")

    with ThreadPoolExecutor(1) as other:
        done = other.submit(first)
        assert is_held.wait(10)
        with alone(tmp_path / "a.lock", "training coop-seed1", report=lines.append):
            order.append("second")
        done.result()
    assert lines == [f"Waiting for process {os.getpid()} on {socket.gethostname()}, which is training coop-seed1."]
    assert order == ["first", "second"] and not list(tmp_path.glob("*.holder"))


def test_who_does_not_want_to_wait_is_told_at_once(tmp_path):
    with alone(tmp_path / "a.lock", "training"):
        with pytest.raises(Busy, match=f"process {os.getpid()} on .* is training"):
            with alone(tmp_path / "a.lock", "training", wait=False):
                pytest.fail("two at once")


def test_a_killed_process_holds_nobody_up(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from kdpl_utils.support.locks import alone\n"
        f"with alone(Path({str(tmp_path / 'a.lock')!r}), 'training'): os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    assert (tmp_path / "a.holder").is_file()
    with alone(tmp_path / "a.lock", "training", wait=False):
        assert f"process {os.getpid()} on" in (tmp_path / "a.holder").read_text()


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "locks").write_text("the user's")
    with pytest.raises(OSError, match=r"a.lock cannot be written \(a file is in the place of its folder\)"):
        with alone(tmp_path / "locks" / "a.lock", "training"):
            pytest.fail("without a lock")


def test_two_commands_on_one_folder_share_the_work(tmp_path, monkeypatch, unscored, impatient):
    """Nothing is trained twice, and both end with the whole table."""
    pairs = plan("base-to-novel", WORLD, ["coop"], ["labels"], [1, 2, 3], **SMALL)[1:]
    trained, plain = [], lab_module.train_learner

    def count(*arguments):
        trained.append(1)
        time.sleep(0.5)
        return plain(*arguments)

    monkeypatch.setattr(lab_module, "train_learner", count)
    with ThreadPoolExecutor(2) as commands:
        both = [commands.submit(run, pairs, tmp_path, workers=1) for _ in range(2)]
        for command in both:
            command.result()
    assert len(trained) == 3 and table_rows(pairs, tmp_path)[0]["seeds"] == "3"


# --- interrupts, and workers whose parent is gone ------------------------------------------------------------------


def default_interrupts():
    """Where tests run in the background, Ctrl-C is ignored by all that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def long_command(out):
    """``kdpl reproduce`` with two workers, as a terminal starts it, and its workers; begins when one is at work."""
    few = ["--learner", "coop", "--mode", "labels", "--seeds", "4", "--shots", "2", "--epochs", "100000"]
    command = [sys.executable, "-m", "kdpl_utils.apps.cli", "reproduce", "--world", WORLD, "--out", str(out), *few]
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=default_interrupts,
    )
    try:
        yield process, wait_for(lambda: holders(out), 300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def holders(out):
    """The processes that are at a training of CoOp."""
    texts = [path.read_text() for path in (out / "locks").glob("coop-*.holder")]
    return {int(text.split()[1]) for text in texts if text}


def wait_for(what, seconds):
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.05)
    assert found, f"not after {seconds} s"
    return found


def is_over(process):
    """No longer there, or dead and not yet collected by its new parent."""
    if not disk._is_alive(process):
        return True
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", ["Ctrl-C", "the parent is killed"])
def test_workers_end_with_their_command(how, tmp_path):
    with long_command(tmp_path) as (process, workers):
        start = time.monotonic()
        if how == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 130
            assert errors == "kdpl reproduce: stopped; the same command goes on\n"
        else:
            process.kill()
            process.communicate(timeout=120)
        wait_for(lambda: all(is_over(worker) for worker in workers), 60)
    assert time.monotonic() - start < 60
    assert not list((tmp_path / "failed").glob("*"))


def test_an_interrupt_in_this_process_is_one_line(tmp_path, monkeypatch, unscored, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(lab_module, "train_learner", interrupt)
    few = ["--learner", "coop", "--mode", "labels", "--seeds", "1", "--shots", "2", "--workers", "1"]
    assert main(["reproduce", "--world", WORLD, "--out", str(tmp_path), *few]) == 130
    assert capsys.readouterr().err == "kdpl reproduce: stopped; the same command goes on\n"


def test_a_script_without_a_main_guard_is_refused_before_anything_runs(tmp_path, monkeypatch):
    pairs = plan("base-to-novel", WORLD, ["coop"], ["labels"], [1, 2], **SMALL)
    script = tmp_path / "mine.py"
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)  # pytest-xdist's has none
    script.write_text("run(plan(), 'results', workers=2)\n")
    with pytest.raises(ValueError, match=r"mine.py has no main guard, .* \"if __name__ == '__main__':\", or ask for"):
        run(pairs, tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()
    script.write_text("if __name__ == '__main__':\n    run(plan(), 'results', workers=2)\n")
    check_main_guard()


def test_a_full_disk_ends_the_command_instead_of_failing_every_run(tmp_path, monkeypatch, unscored, capsys):
    trained, fsync = [], os.fsync
    plain = lab_module.train_learner
    monkeypatch.setattr(lab_module, "train_learner", lambda *a: trained.append(1) or plain(*a))

    def no_room_for_prompts(opened):
        if trained:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(opened)

    monkeypatch.setattr(disk.os, "fsync", no_room_for_prompts)
    few = ["--learner", "coop", "--mode", "labels", "--seeds", "3", "--shots", "2", "--epochs", "1", "--workers", "1"]
    assert main(["reproduce", "--world", WORLD, "--out", str(tmp_path), *few]) == 2
    error = capsys.readouterr().err
    assert "There is no room left on the disk" in error and len(error.splitlines()) == 1 and len(trained) == 1


PAGE = {
    "A disk that takes nothing more": WRITES,
    "What killed processes leave": LEFT,
    "Scores that are damaged": DAMAGED_JSON,
    "Features that are damaged": DAMAGED_TENSORS,
}
