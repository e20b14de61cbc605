"""Features come from the disk as they went there, and never for other images or another model."""

import pytest
import torch
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.experiments import cache as module
from kdpl_utils.experiments.cache import FeatureCache
from kdpl_utils.worlds.world import Split

IMAGES = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue", "white", "black")]


def split(n=3, key="three"):
    return Split(IMAGES[:n], torch.zeros(n, dtype=torch.long), key=key)


def test_each_image_is_encoded_once(student, encoded, tmp_path):
    first = FeatureCache(tmp_path).features(student, split())
    again = FeatureCache(tmp_path).features(student, split())
    assert torch.equal(first, again) and torch.equal(first, kd.encode_images(student, IMAGES[:3])) and encoded == [3]


def test_other_images_and_other_models_are_encoded_again(student, encoded, tmp_path):
    cache = FeatureCache(tmp_path)
    half = kd.load_vlm("emoji-student-vit", device="cpu", precision="bf16")
    for vlm, asked in ((student, split()), (student, split(key="b")), (student, split(2)), (half, split())):
        cache.features(vlm, asked)
    assert encoded == [3, 3, 2, 3]


def test_images_that_nothing_identifies_are_not_kept(student, encoded, tmp_path):
    for _ in range(2):
        FeatureCache(tmp_path / "cache").features(student, split(key=""))
    assert encoded == [3, 3] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "not finite", "of other rows"])
def test_a_damaged_part_is_named_and_made_again(damage, student, encoded, tmp_path, capsys):
    first = FeatureCache(tmp_path).features(student, split())
    (file,) = tmp_path.glob("*.safetensors")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:50])
    else:
        rows = first * torch.nan if damage == "not finite" else first[:2]
        module.write_tensors(file, {"features": rows}, {})
    again = FeatureCache(tmp_path).features(student, split())
    assert torch.equal(again, first) and encoded == [3, 3] and f"{file} is damaged" in capsys.readouterr().err


def test_a_killed_process_loses_only_its_part(student, encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART", 2)
    encode = module.encode_images

    def killed(vlm, images, **settings):
        if len(encoded) == 2:
            raise KeyboardInterrupt
        return encode(vlm, images, **settings)

    monkeypatch.setattr(module, "encode_images", killed)
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path).features(student, split(5))
    assert len(list(tmp_path.glob("*.safetensors"))) == 2 and len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(module, "encode_images", encode)
    whole = FeatureCache(tmp_path).features(student, split(5))
    torch.testing.assert_close(whole, kd.encode_images(student, IMAGES), atol=1e-6, rtol=0)
    assert sorted(encoded[:3]) == [1, 2, 2]


def test_names_and_their_templates(student, tmp_path, monkeypatch):
    names = ["hot dog", "sushi", "ice cream"]
    cache = FeatureCache(tmp_path)
    for templates in (("a photo of a {}.",), ("{}",)):
        assert torch.equal(cache.names(student, names, templates), kd.encode_names(student, names, templates))
    monkeypatch.setattr(module, "encode_names", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(cache.names(student, names, ("{}",)), kd.encode_names(student, names, ("{}",)))
