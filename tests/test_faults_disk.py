"""What can go wrong with files, processes and disks: the sentence that is said, and what is kept."""

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from kdpl_utils.experiments import lab as lab_module
from kdpl_utils.experiments.lab import Lab
from kdpl_utils.experiments.plan import is_complete, plan
from kdpl_utils.experiments.run import run
from kdpl_utils.experiments.tables import table_rows
from kdpl_utils.support import disk
from kdpl_utils.support.disk import DiskFull, read_json, write_json, write_whole
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


NO_ROOM = r"^There is no room left on the disk of .* to write kept.json: make some .* what was complete is kept\.$"
CANNOT = r"kept.json cannot be written \({}\): choose another folder, or make this one writable\.$"
WRITES = {
    "a full disk": (out_of_room, NO_ROOM),
    "a full disk, in the words of safetensors": (out_of_room_as_safetensors_says_it, NO_ROOM),
    "a quota": (over_the_quota, NO_ROOM),
    "a read-only disk": (read_only, CANNOT.format("read-only file system")),
    "a folder of somebody else": (not_allowed, CANNOT.format("permission denied")),
}


@pytest.mark.parametrize("case", WRITES)
def test_a_write_that_fails_is_one_sentence_and_leaves_what_was_there(case, tmp_path):
    write, sentence = WRITES[case]
    path = write_json(tmp_path / "kept.json", {"good": 1})
    with pytest.raises(OSError, match=sentence) as error:
        write_whole(path, write)
    assert "\n" not in str(error.value)
    assert read_json(path) == {"good": 1} and [entry.name for entry in tmp_path.iterdir()] == ["kept.json"]


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
    with pytest.raises(DiskFull, match=NO_ROOM):
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
LEFT = {  # the file, how old it is, whether it is removed
    "of a killed process": (temporary("a.json"), 0, True),
    "of one that still writes": (temporary("a.json", process=os.getpid()), DAY, False),
    "of another host, old": (temporary("a.json", host="elsewhere"), DAY, True),
    "of another host, new": (temporary("a.json", host="elsewhere"), 0, False),
    "of another host, from the future: a clock was set back": (temporary("a.json", host="elsewhere"), -DAY, True),
    "of the user": (".a.json.part", DAY, False),
}


@pytest.mark.parametrize("case", LEFT)
@pytest.mark.parametrize("how", ["the same file is written", "a run is started"])
def test_temporary_files_are_removed_when_nobody_writes_them(how, case, tmp_path):
    name, age, is_removed = LEFT[case]
    (tmp_path / name).write_text("half")
    os.utime(tmp_path / name, (time.time() - age,) * 2)
    if how == "a run is started":
        Lab(tmp_path)
    else:
        write_json(tmp_path / "a.json", {})
    assert (tmp_path / name).exists() != is_removed


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


DAMAGES = [cut, empty, change, replace_by_text]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_json_is_named_and_not_there(damage, tmp_path):
    path = write_json(tmp_path / "scores.json", {"base": 71.25, "novel": float("nan"), "pair": (1, 2)})
    assert read_json(path)["base"] == 71.25
    damage(path)
    with pytest.warns(UserWarning, match="scores.json is damaged .* made again"):
        assert read_json(path) is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_tensors_are_named(damage, tmp_path):
    path = write_tensors(tmp_path / "features.safetensors", {"a": torch.arange(50.0)}, {"key": "x"})
    header, tensors = read_tensors(path)
    assert header == {"key": "x"} and torch.equal(tensors["a"], torch.arange(50.0))
    damage(path)
    with pytest.raises(disk.Damaged, match="features.safetensors is damaged"):
        read_tensors(path)


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
    return [{column: value for column, value in row.items() if column != "seconds"} for row in rows]


@pytest.mark.parametrize("damage", [*DAMAGES, remove])
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
