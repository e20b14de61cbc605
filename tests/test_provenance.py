"""data/provenance.py and data/icons.py: redrawn styles are found, and icons get the names that people would use."""

import pytest
import torch

import icons
from kdpl_utils.worlds import drawings
from kdpl_utils.worlds.emoji import ARTISTS, GROUPS, PRETRAINING_STYLES
from provenance import Likeness, edges, likeness, on_white


def compare(ink, other, n=None):
    concepts, sheets = drawings.metadata()["concepts"], drawings.metadata()["styles"]
    common = sorted(set(sheets[ink]["drawn"]) & set(sheets[other]["drawn"]))
    rows = torch.tensor([c for c in common if concepts[c]["group"] in GROUPS][:n])
    return likeness(drawings.sprites(ink)[rows].float() / 255, drawings.sprites(other)[rows].float() / 255)


@pytest.mark.parametrize("ink", [ink for ink, _ in ARTISTS.values()])
def test_no_pretraining_style_looks_like_an_ink_style(ink):
    for style in PRETRAINING_STYLES:
        found = compare(ink, style)
        assert found.concepts >= 100 and found.is_by_others, (style, found)


@pytest.mark.parametrize("artist", ["openmoji", "noto", "fluent", "emojione"])
def test_an_artist_s_ink_looks_like_the_artist_s_colour(artist):
    """The test finds every pair that is known to be redrawn, so passing it means something."""
    assert not compare(*ARTISTS[artist]).is_by_others


def test_likeness_of_drawings_and_their_tracings_is_high():
    rows = torch.tensor(drawings.metadata()["styles"]["twemoji"]["drawn"][:120])
    colour = drawings.sprites("twemoji")[rows].float() / 255
    traced = torch.cat([torch.zeros(120, 3, 64, 64), 1 - edges(on_white(colour))], dim=1)
    found = likeness(traced, colour)
    assert found.correlation > 0.9 and found.nearest > 0.9
    shuffled = likeness(traced.roll(1, 0), colour)
    assert shuffled.correlation < 0.5 and shuffled.nearest < 0.1


def test_small_sets_are_judged_by_correlation_alone():
    assert Likeness(99, 0.55, 0.9).is_by_others and not Likeness(99, 0.65, 0.0).is_by_others
    assert not Likeness(100, 0.55, 0.0).is_by_others and not Likeness(100, 0.4, 0.3).is_by_others


@pytest.mark.parametrize("icon, name", [
    ("guitar", "guitar"), ("guitar-outline-rounded", "guitar"), ("baseline-camera-24", "camera"),
    ("arrow-up-left", "arrow up left"), ("outline", "outline"), ("mood-happy", "happy face"),
    ("emoji-sad-fill", "sad face"), ("face-wink", "winking face"), ("face-id", "face id"),
    ("emoji-food-beverage", "emoji food beverage"),
])  # fmt: skip
def test_an_icon_is_called_by_its_words_without_its_version(icon, name):
    assert icons.plain_name(icon) == name


def test_wide_icons_are_drawn_in_a_square():
    svg = icons.svg_document({"body": '<path d="M0 0h32v16H0z"/>', "width": 32}, {"height": 16})
    pytest.importorskip("resvg_py")
    alpha = icons.render_icon(svg)
    assert alpha[20].min() > 200 and alpha[5].max() == 0 and alpha[35].max() == 0
    assert icons.render_icon("<svg") is None and icons.render_icon(svg.replace("M0 0", "M99 99")) is None
