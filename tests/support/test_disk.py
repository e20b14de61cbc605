"""Files are whole or not there, and damage is named."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from kdpl_utils.support import disk
from kdpl_utils.support.disk import (
    DamagedError,
    atomic_write,
    digest,
    file_digest,
    file_lock,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)

TENSORS = {"ctx": torch.arange(6.0).view(2, 3)}


def test_a_digest_is_the_same_in_another_process():
    there = "from kdpl_utils.support.disk import digest; print(digest('a', [1, 2.5], {'b': None}))"
    done = subprocess.run([sys.executable, "-c", there], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest("a", [1, 2.5], {"b": None}) != digest("a", [1, 2], {"b": None})


def test_a_file_digest_tells_large_files_apart(tmp_path):
    """Also when only the end differs; not by name or place."""
    content = bytearray(8 * 2**20)
    for name in "abc":
        content[-1] = name == "c"
        (tmp_path / name).write_bytes(content)
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = write_json(tmp_path / "new" / "kept.json", {"good": 1})

    def full(part):
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=f"no room left on the disk to write {path}"):
        atomic_write(path, full)
    assert read_json(path) == {"good": 1} and os.listdir(path.parent) == ["kept.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"good": 2, "sha256": "0"}', '{"good": 1}'])
def test_damaged_json_is_reported_and_not_there(tmp_path, content, capsys):
    path = write_json(tmp_path / "scores.json", {"good": 1})
    assert read_json(path) == {"good": 1} and read_json(tmp_path / "nowhere.json") is None
    assert capsys.readouterr().err == ""
    path.write_text(content)
    assert read_json(path) is None
    assert str(path) in capsys.readouterr().err


def test_tensors_come_back_with_their_header(tmp_path):
    header, tensors = read_tensors(write_tensors(tmp_path / "a.safetensors", TENSORS, {"kind": "test"}))
    assert header == {"kind": "test"} and torch.equal(tensors["ctx"], TENSORS["ctx"])


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "a bit"])
def test_a_damaged_file_of_tensors_is_named(tmp_path, damage):
    path = write_tensors(tmp_path / "a.safetensors", TENSORS, {"kind": "test"})
    content = path.read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes({"cut": content[:-4], "empty": b"", "text": b"text", "a bit": changed}[damage])
    with pytest.raises(DamagedError, match="a.safetensors is damaged"):
        read_tensors(path)


def test_who_comes_second_waits_and_says_for_what(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(disk, "PATIENCE", 0.05)
    order = []

    def second():
        with file_lock(tmp_path / "a.lock", "training"):
            order.append("second")

    with file_lock(tmp_path / "a.lock", "training"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.5)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"] and "another process, which is training" in capsys.readouterr().err
