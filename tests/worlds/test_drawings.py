import numpy as np
import pytest
import torch
from PIL import Image

from kdpl_utils.worlds import drawings as emoji

STYLES = tuple(emoji.metadata()["styles"])
WHITE = list(emoji.BACKGROUNDS).index("white")


def view(scale=1.0, angle=0.0, shift=(0.0, 0.0), background=WHITE):
    """One view, all of it given."""
    return emoji.Views(torch.tensor([scale]), torch.tensor([angle]), torch.tensor([shift]), torch.tensor([background]))


@pytest.fixture(scope="module")
def drawing():
    """(1, 4, 64, 64): a drawing with soft edges and no symmetry."""
    names = [c["name"] for c in emoji.metadata()["concepts"]]
    return emoji.sprites("emojione")[[names.index("watermelon")]].float() / 255


@pytest.fixture
def blob():
    """(1, 4, 64, 64): a soft black spot in the middle."""
    places = torch.arange(64) - 31.5
    sprite = torch.zeros(1, 4, 64, 64)
    sprite[:, 3] = torch.exp(-(places[:, None] ** 2 + places**2) / (2 * 6**2))
    return sprite


def centre_and_area(picture):
    """Where the dark pixels are, (x, y) in -1..1, and how many they are."""
    dark = 1 - picture[0].mean(0)
    places = (torch.arange(64) + 0.5) / 32 - 1
    return ((dark.sum(0) @ places) / dark.sum()).item(), ((dark.sum(1) @ places) / dark.sum()).item(), dark.sum().item()


@pytest.mark.parametrize("name", emoji.BACKGROUNDS)
def test_an_untouched_drawing_is_what_pillow_composes(drawing, name):
    ours = emoji.render(drawing, view(background=list(emoji.BACKGROUNDS).index(name)))[0].permute(1, 2, 0).numpy()
    colour = tuple(round(255 * c) for c in emoji.BACKGROUNDS[name])
    sprite = Image.fromarray((drawing[0] * 255).round().byte().permute(1, 2, 0).numpy(), "RGBA")
    theirs = Image.alpha_composite(Image.new("RGBA", (64, 64), (*colour, 255)), sprite).convert("RGB")
    assert np.abs(ours - np.asarray(theirs) / 255).max() <= 2 / 255


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turns_are_counter_clockwise(drawing, turns):
    upright, turned = emoji.render(drawing, view()), emoji.render(drawing, view(angle=90.0 * turns))
    torch.testing.assert_close(turned, torch.rot90(upright, turns, (2, 3)), atol=1e-3, rtol=0)
    assert (turned - upright).abs().max() > 0.5  # the drawing does tell the turns apart


@pytest.mark.parametrize("angle", [0.0, 25.0])
@pytest.mark.parametrize("scale", [1.0, 0.6])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (-0.25, 0.1)])
def test_place_and_size_are_what_the_view_says(blob, shift, scale, angle):
    x, y, area = centre_and_area(emoji.render(blob, view(scale, angle, shift)))
    assert (x, y) == pytest.approx(shift, abs=0.01)  # x to the right, y down
    assert area == pytest.approx(blob[:, 3].sum().item() * scale**2, rel=0.01)


def test_the_colour_of_transparent_pixels_does_not_bleed():
    sprite = torch.zeros(1, 4, 64, 64)  # transparent black ...
    sprite[:, :, 16:48, 16:48] = 1  # ... around opaque white, on white: nothing may be seen
    assert emoji.render(sprite, view(0.83, 17.0, (0.05, 0.03))).min() > 0.999


def test_views_are_a_function_of_the_seed_and_stay_inside():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    views, again, other = emoji.sample_views(5000, 7), emoji.sample_views(5000, 7), emoji.sample_views(5000, 8)
    assert torch.equal(torch.get_rng_state(), before)
    for field in ("scale", "angle", "shift", "background"):
        assert torch.equal(getattr(views, field), getattr(again, field))
        assert not torch.equal(getattr(views, field), getattr(other, field))
    assert 0.6 <= views.scale.min() < 0.61 and 0.99 < views.scale.max() <= 1
    assert -25 <= views.angle.min() < -24 and 24 < views.angle.max() <= 25
    assert (views.shift.abs() <= (1 - views.scale)[:, None] + 1e-6).all()
    shares = views.background.bincount(minlength=len(emoji.BACKGROUNDS)) / 5000
    assert shares[WHITE] == pytest.approx(0.3, abs=0.03) and shares[shares != shares[WHITE]].min() > 0.08


@pytest.mark.parametrize("style", STYLES)
def test_the_metadata_says_which_concepts_a_style_draws(style):
    seen = emoji.sprites.__wrapped__(style)[:, 3].flatten(1).any(1)  # not kept: thirteen sheets are 350 MB
    assert seen.nonzero().flatten().tolist() == emoji.metadata()["styles"][style]["drawn"]
