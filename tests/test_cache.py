"""Features come from the disk exactly as they went there, and never for other pictures or another model."""

import pytest
import torch
from PIL import Image

import kdpl_utils as kd
from kdpl_utils import cache as module
from kdpl_utils.cache import FeatureCache


@pytest.fixture(scope="module")
def student():
    return kd.load_vlm("emoji-student-vit", device="cpu")


PICTURES = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]


@pytest.fixture
def encoded(monkeypatch):
    """Counts the pictures that a model looked at."""
    seen = []
    plain = module.encode_images
    monkeypatch.setattr(module, "encode_images", lambda vlm, images: seen.append(len(images)) or plain(vlm, images))
    return seen


def test_each_picture_is_seen_once(student, encoded, tmp_path):
    first = FeatureCache(tmp_path).features(student, PICTURES, "three")
    again = FeatureCache(tmp_path).features(student, PICTURES, "three")
    assert torch.equal(first, again) and torch.equal(first, kd.encode_images(student, PICTURES)) and encoded == [3]


def test_what_differs_is_encoded_again(student, encoded, tmp_path):
    cache = FeatureCache(tmp_path)
    cache.features(student, PICTURES, "a")
    cache.features(student, PICTURES, "b")
    cache.features(student, PICTURES[:2], "a")
    tuned = kd.VLM(student.model, student.preprocess, student.tokenizer, student.name, "tuned.pt")
    cache.features(tuned, PICTURES, "a")
    assert encoded == [3, 3, 2, 3]


@pytest.mark.parametrize("folder, key", [(None, "a"), ("here", "")])
def test_without_folder_or_key_nothing_is_kept(student, encoded, tmp_path, folder, key):
    cache = FeatureCache(folder and tmp_path / folder)
    cache.features(student, PICTURES, key)
    cache.features(student, PICTURES, key)
    assert encoded == [3, 3] and not list(tmp_path.iterdir())


def test_a_file_that_was_cut_short_is_made_again(student, encoded, tmp_path):
    first = FeatureCache(tmp_path).features(student, PICTURES, "a")
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(FeatureCache(tmp_path).features(student, PICTURES, "a"), first) and encoded == [3, 3]


def test_a_failure_leaves_no_file(student, tmp_path, monkeypatch):
    def fail(tensors, partial, header):
        partial.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(module, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        FeatureCache(tmp_path).features(student, PICTURES, "a")
    assert not list(tmp_path.iterdir())
