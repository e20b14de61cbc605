"""Fixtures that several rooms share."""

import pytest


@pytest.fixture(scope="module")
def student():
    """Load the small vision transformer, once a module, which may change it."""
    import kdpl_utils as kd

    return kd.load_vlm("emoji-student-vit", device="cpu")


@pytest.fixture
def encoded(monkeypatch):
    """Record how many images the cache has a model encode, call by call."""
    from kdpl_utils.experiments import cache

    seen = []
    encode = cache.encode_images

    def recorded(vlm, images, *arguments, **settings):
        seen.append(len(images))
        return encode(vlm, images, *arguments, **settings)

    monkeypatch.setattr(cache, "encode_images", recorded)
    return seen
