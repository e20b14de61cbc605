"""Features of pictures in files, each told by its bytes: one that changes costs no other, and none is served stale."""

import os
import shutil

import numpy as np
import pytest
import torch
from faults import Fault
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.experiments import cache as module
from kdpl_utils.experiments.cache import FeatureCache
from kdpl_utils.worlds.photo_worlds import folder_world
from kdpl_utils.worlds.photos import ArrayPicture, TarPicture, content_of


def save(path, colour):
    """Pictures of one size: as bitmaps also in bytes."""
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), colour).save(path)


@pytest.fixture
def photos(tmp_path):
    for i in range(5):
        save(tmp_path / "photos" / f"{i}.bmp", (50 * i, 0, 90))
    return tmp_path / "photos"


def listed(folder):
    return folder_world(folder, ["a", "b"], dictionary=["tree"]).train


def replaced_unnoticed(path):
    """As copying with dates does: as large and as old as what was there."""
    was = path.stat()
    save(path, (1, 255, 3))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)


OTHERS_STAY = "the features of all others; {} looked at"
CHANGES = {  # what happens to a folder of five pictures
    f"of five pictures {what}": Fault(happens, (), OTHERS_STAY.format(looked_at))
    for what, happens, looked_at in (
        ("none changes", lambda folder: None, "none"),
        ("one becomes another", lambda folder: save(folder / "1.bmp", (1, 255, 3)), "1"),
        ("one becomes another, as large and as old", lambda folder: replaced_unnoticed(folder / "1.bmp"), "1"),
        ("one is new", lambda folder: save(folder / "00.bmp", (1, 255, 3)), "1"),
        ("one is removed", lambda folder: (folder / "2.bmp").unlink(), "none"),
        ("one has another name", lambda folder: (folder / "0.bmp").rename(folder / "9.bmp"), "none"),
        (
            "two change places",
            lambda folder: (save(folder / "0.bmp", (50, 0, 90)), save(folder / "1.bmp", (0, 0, 90))),
            "none",
        ),
        ("one becomes older, as a clock was set back", lambda folder: os.utime(folder / "3.bmp", (1, 1)), "none"),
        ("one breaks", lambda folder: (folder / "3.bmp").write_bytes(b"broken"), "none"),
    )
}


@pytest.mark.filterwarnings("ignore:.*cannot be read and are left out")
@pytest.mark.parametrize("step", ["once", "and back again"])
@pytest.mark.parametrize("change", CHANGES)
def test_only_what_has_changed_is_encoded(change, step, student, encoded, photos, tmp_path):
    happens, _, kept = CHANGES[change]
    cache = FeatureCache(tmp_path / "cache")
    cache.features(student, listed(photos))
    shutil.copytree(photos, tmp_path / "before")
    happens(photos)
    features = cache.features(student, listed(photos))
    torch.testing.assert_close(features, kd.encode_images(student, listed(photos).images), rtol=0, atol=1e-6)
    if step == "and back again":
        shutil.rmtree(photos)
        shutil.move(tmp_path / "before", photos)
        again = cache.features(student, listed(photos))
        torch.testing.assert_close(again, kd.encode_images(student, listed(photos).images), rtol=0, atol=1e-6)
    assert encoded[0] == 5 and OTHERS_STAY.format(sum(encoded[1:]) or "none") == kept


def test_a_folder_that_has_moved_is_not_encoded_again(student, encoded, photos, tmp_path):
    first = FeatureCache(tmp_path / "cache").features(student, listed(photos))
    (tmp_path / "elsewhere").mkdir()
    photos.rename(tmp_path / "elsewhere" / "photos")
    again = FeatureCache(tmp_path / "cache").features(student, listed(tmp_path / "elsewhere" / "photos"))
    assert torch.equal(first, again) and encoded == [5]


def test_a_change_while_the_world_is_open_is_seen(student, encoded, photos, tmp_path):
    cache, pictures = FeatureCache(tmp_path / "cache"), listed(photos)
    first = cache.features(student, pictures)
    replaced_unnoticed(photos / "1.bmp")
    second = cache.features(student, pictures)
    assert [torch.equal(a, b) for a, b in zip(first, second)] == [True, False, True, True, True] and encoded == [5, 1]


def test_views_and_some_of_the_pictures_are_told_too(student, encoded, photos, tmp_path):
    """Three of five, two crops of each: one picture changes, and so do its two crops."""
    cache = FeatureCache(tmp_path / "cache")
    for _ in range(2):
        views = listed(photos).subset([0, 1, -1]).crops(2, seed=3)
        features = cache.features(student, views)
        torch.testing.assert_close(features, kd.encode_images(student, views.images), rtol=0, atol=1e-6)
        save(photos / "4.bmp", (1, 255, 3))
    assert encoded == [6, 2]
    cache.features(student, listed(photos).subset([0, 1, -1]).crops(2, seed=4))
    assert encoded == [6, 2, 6]


def test_a_picture_that_cannot_be_read_costs_no_other(student, encoded, photos, tmp_path, monkeypatch):
    """Of very many nobody looks at all beforehand: what was encoded before the broken one is kept."""
    monkeypatch.setattr("kdpl_utils.worlds.photos.CHECKED", 3)
    monkeypatch.setattr(module, "STEP", 1)
    good = (photos / "3.bmp").read_bytes()
    (photos / "3.bmp").write_bytes(b"broken")
    cache = FeatureCache(tmp_path / "cache")
    with pytest.raises(ValueError, match="3.bmp cannot be read as a picture"):
        cache.features(student, listed(photos))
    encoded.clear()
    (photos / "3.bmp").unlink()
    assert len(cache.features(student, listed(photos))) == 4 and encoded == [1]
    (photos / "3.bmp").write_bytes(good)
    assert len(cache.features(student, listed(photos))) == 5 and encoded == [1, 1]


def test_a_picture_that_is_gone_is_said(student, encoded, photos, tmp_path):
    cache, pictures = FeatureCache(tmp_path / "cache"), listed(photos)
    cache.features(student, pictures)
    (photos / "2.bmp").unlink()
    with pytest.raises(FileNotFoundError, match="There is no file .*2.bmp"):
        cache.features(student, pictures)


def test_of_very_long_lists_nothing_is_read_to_tell_them(student, encoded, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_READ", 4)
    monkeypatch.setattr("kdpl_utils.worlds.photo_worlds.content_of", lambda photo: pytest.fail("it was read"))
    cache = FeatureCache(tmp_path / "cache")
    for _ in range(2):
        cache.features(student, listed(photos))
    assert encoded == [5]


def test_a_picture_in_a_tar_file_is_told_by_its_own_bytes(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"headfirstsecond")
    first, second = TarPicture(str(path), "1", 4, 5), TarPicture(str(path), "2", 9, 6)
    before = content_of(first), content_of(second)
    path.write_bytes(b"HEADfirstSECOND")
    assert content_of(first) == before[0] and content_of(second) != before[1]


def test_a_picture_in_an_array_is_told_by_its_own_bytes(tmp_path):
    pictures = np.zeros((2, 3, 4, 3), dtype=np.uint8)
    photos = [ArrayPicture(str(tmp_path / "a.npy"), row) for row in (0, 1)]
    np.save(tmp_path / "a.npy", pictures)
    before = [content_of(photo) for photo in photos]
    pictures[1] = 5
    np.save(tmp_path / "a.npy", pictures)
    assert content_of(photos[0]) == before[0] and content_of(photos[1]) != before[1]


PAGE = {"Pictures that change": CHANGES}
