"""Features come from the disk exactly as they went there, and never for other pictures or another model."""

import copy
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.experiments import cache as module
from kdpl_utils.experiments.cache import FeatureCache
from kdpl_utils.support import disk


def split(images, key):
    return kd.Split(images, torch.zeros(len(images), dtype=torch.long), key=key)


PICTURES = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]


def test_each_picture_is_seen_once(student, encoded, tmp_path):
    first = FeatureCache(tmp_path).features(student, split(PICTURES, "three"))
    again = FeatureCache(tmp_path).features(student, split(PICTURES, "three"))
    assert torch.equal(first, again) and torch.equal(first, kd.encode_images(student, PICTURES)) and encoded == [3]


def test_what_differs_is_encoded_again(student, encoded, tmp_path):
    cache = FeatureCache(tmp_path)
    cache.features(student, split(PICTURES, "a"))
    cache.features(student, split(PICTURES, "b"))
    cache.features(student, split(PICTURES[:2], "a"))
    tuned = kd.VLM(student.model, student.preprocess, student.tokenizer, student.name, "tuned.pt")
    cache.features(tuned, split(PICTURES, "a"))
    assert encoded == [3, 3, 2, 3]


@pytest.mark.parametrize("folder, key", [(None, "a"), ("here", "")])
def test_without_folder_or_key_nothing_is_kept(student, encoded, tmp_path, folder, key):
    cache = FeatureCache(folder and tmp_path / folder)
    cache.features(student, split(PICTURES, key))
    cache.features(student, split(PICTURES, key))
    assert encoded == [3, 3] and not list(tmp_path.iterdir())


def test_a_file_that_was_cut_short_is_made_again(student, encoded, tmp_path):
    first = FeatureCache(tmp_path).features(student, split(PICTURES, "a"))
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.warns(UserWarning, match=f"{file.name} is damaged .* made again"):
        again = FeatureCache(tmp_path).features(student, split(PICTURES, "a"))
    assert torch.equal(again, first) and encoded == [3, 3]


def test_a_failure_leaves_no_file(student, tmp_path, monkeypatch):
    def fail(partial, path):
        raise OSError("the disk is away")

    monkeypatch.setattr(disk.os, "replace", fail)
    with pytest.raises(OSError, match="the disk is away"):
        FeatureCache(tmp_path).features(student, split(PICTURES, "a"))
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_weights_changed_by_hand_are_another_model(student, encoded, tmp_path):
    model = copy.deepcopy(student.model)
    for _ in range(2):
        FeatureCache(tmp_path).features(kd.VLM(model, *student_parts(student)), split(PICTURES, "a"))
    with torch.no_grad():
        model.visual.proj[0, 0] += 1
    FeatureCache(tmp_path).features(kd.VLM(model, *student_parts(student)), split(PICTURES, "a"))
    assert encoded == [3, 3]


def student_parts(student):
    return student.preprocess, student.tokenizer, student.name


def rows_of(made, seconds=0.0):
    """Makes row i as the number i, and notes which rows it was asked for."""

    def make(rows):
        time.sleep(seconds)
        made.append(rows.start)
        return torch.arange(rows.start, rows.stop).float()[:, None]

    return make


def test_a_long_list_is_kept_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART", 4)
    made = []

    def broken(rows):
        if rows.start == 8:
            raise KeyboardInterrupt
        return rows_of(made)(rows)

    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path).tensor(("m", "a"), 10, broken)
    whole = FeatureCache(tmp_path).tensor(("m", "a"), 10, rows_of(made))
    assert whole[:, 0].tolist() == list(range(10)) and made == [0, 4, 8]  # what was complete is not made again


def test_those_who_ask_together_share_the_work(tmp_path, monkeypatch):
    """Each part is made once, by one of them; all of them get the whole."""
    monkeypatch.setattr(module, "PART", 4)
    made = [[], [], []]
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(FeatureCache(tmp_path).tensor, ("m", "a"), 24, rows_of(mine, 0.2)) for mine in made]
        whole = [future.result() for future in asked]
    assert all(w[:, 0].tolist() == list(range(24)) for w in whole)
    assert sorted(sum(made, [])) == [0, 4, 8, 12, 16, 20] and all(made)


def test_a_lock_left_by_a_killed_process_holds_nobody_up(tmp_path):
    cache = FeatureCache(tmp_path)
    lock = cache._lock(cache._path(disk.digest("m", "a", 2), range(2)))
    program = f"import filelock, os; filelock.FileLock({str(lock)!r}).acquire(); os._exit(1)"
    subprocess.run([sys.executable, "-c", program], check=False)
    assert len(cache.tensor(("m", "a"), 2, rows_of([]))) == 2


def test_who_comes_second_waits_for_what_the_first_is_at(tmp_path):
    started, second = threading.Event(), []

    def slow(rows):
        started.set()
        time.sleep(0.5)
        return rows_of([])(rows)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(FeatureCache(tmp_path).tensor, ("m", "a"), 3, slow)
        assert started.wait(10)
        whole = FeatureCache(tmp_path).tensor(("m", "a"), 3, rows_of(second))
        assert torch.equal(whole, first.result()) and second == []


def test_another_precision_is_another_model(student, encoded, tmp_path):
    half = kd.load_vlm("emoji-student-vit", device="cpu", precision="bf16")
    assert half.identity[:2] == student.identity[:2]
    features = [FeatureCache(tmp_path).features(vlm, split(PICTURES, "a")) for vlm in (student, half)]
    assert encoded == [3, 3] and not torch.equal(*features)


def test_a_part_that_takes_long_is_kept_in_steps(tmp_path, monkeypatch):
    """Killed in its third step, it goes on with that one; what was begun is gone when the part is whole."""
    monkeypatch.setattr(module, "PART", 10)
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.0)
    made = []

    def killed(rows):
        if rows.start == 4:
            raise KeyboardInterrupt
        return rows_of(made)(rows)

    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path).tensor(("m", "a"), 10, killed, step=2)
    whole = FeatureCache(tmp_path).tensor(("m", "a"), 10, rows_of(made), step=2)
    assert whole[:, 0].tolist() == list(range(10)) and made == [0, 2, 4, 6, 8]
    assert not list(tmp_path.glob("*.begun"))


def test_steps_change_no_number(student, tmp_path, monkeypatch):
    pictures = split([Image.new("RGB", (64, 64), (i, 2 * i, 0)) for i in range(70)], "many")
    monkeypatch.setattr(module, "STEP", 64)
    assert torch.equal(FeatureCache(tmp_path).features(student, pictures), kd.encode_images(student, pictures.images))


def test_a_part_that_another_process_took_away_is_the_oldest(tmp_path):
    (tmp_path / "there").touch()
    assert module._written(tmp_path / "there") > module._written(tmp_path / "gone") == 0
