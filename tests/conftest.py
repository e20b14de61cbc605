"""What many tests start from."""

import pytest

import kdpl_utils as kd
from kdpl_utils.experiments import cache


@pytest.fixture(scope="module")
def student():
    """The small vision transformer; of a module its own, which may do with it what it likes."""
    return kd.load_vlm("emoji-student-vit", device="cpu")


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures a model looked at for the cache, each time."""
    seen = []
    plain = cache.encode_images
    monkeypatch.setattr(cache, "encode_images", lambda vlm, images: seen.append(len(images)) or plain(vlm, images))
    return seen
