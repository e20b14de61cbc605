"""The one way in for pictures: what each becomes, and what is said of a file that is not a picture."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdpl_utils.support.pictures import FORMATS, as_picture, as_rgb, is_picture, open_picture

RAMP = np.linspace(0, 1, 256).reshape(16, 16)  # black to white
GREY = np.rint(255 * RAMP).astype(np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def greys(image):
    pixels = np.asarray(image)
    assert image.mode == "RGB" and (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


@pytest.mark.parametrize(
    "numbers",
    [
        np.rint(65535 * RAMP).astype(np.uint16),
        np.rint(65535 * RAMP).astype(np.int32),
        GREY.astype(np.int32),
        RAMP.astype(np.float32),
        GREY.astype(np.float32),
        (65535 * RAMP).astype(np.float32),
        (1e30 * RAMP).astype(np.float32),
    ],
    ids=["16 bit", "16 in 32 bit", "8 in 32 bit", "0…1", "0…255", "0…65535", "huge"],
)
def test_wide_numbers_are_scaled(tmp_path, numbers):
    image = Image.fromarray(numbers)
    np.testing.assert_allclose(greys(as_rgb(image)), GREY, atol=1)
    np.testing.assert_allclose(greys(open_picture(saved(tmp_path / "a.tif", image))), GREY, atol=1)


def test_a_dark_picture_of_sixteen_bits_stays_dark(tmp_path):
    image = Image.fromarray(np.full((4, 4), 200, np.uint16))
    for name in ("a.png", "a.tif", "a.pgm"):
        assert greys(open_picture(saved(tmp_path / name, image))).max() == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_transparent_is_white(mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (0, 0, 0, 255))
    white = greys(as_rgb(image.convert(mode)))
    assert (white[0, 0], white[1, 1]) == (255, 0)


@pytest.mark.parametrize("mode, key", [("L", 7), ("RGB", (7, 7, 7)), ("P", 7)])
def test_a_transparent_colour_is_white(mode, key, tmp_path):
    image = Image.new(mode, (4, 4), key)
    if mode == "P":
        image.putpalette([3] * 768)
    image.putpixel((1, 1), (9, 9, 9) if mode == "RGB" else 9)
    opened = open_picture(saved(tmp_path / "a.png", image, transparency=key))
    assert opened.getpixel((0, 0)) == (255, 255, 255) != opened.getpixel((1, 1))


@pytest.mark.parametrize("orientation, back", [(1, []), (2, ["FLIP_LEFT_RIGHT"]), (6, ["ROTATE_90"])])
def test_pictures_stand_upright(orientation, back, tmp_path):
    upright = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10).convert("RGB")
    held = upright
    for step in back:
        held = held.transpose(Image.Transpose[step])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", held, exif=exif)
    opened = open_picture(path)
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(upright))
    assert as_rgb(opened) is opened, "it was turned twice"
    assert open_picture(path, upright=False).size == held.size


@pytest.mark.parametrize("raised", [AttributeError, TypeError, struct.error])
def test_broken_exif_leaves_the_picture_as_it_is(raised, monkeypatch):
    def getexif(self):
        raise raised("broken")

    monkeypatch.setattr(Image.Image, "getexif", getexif)
    assert as_rgb(Image.new("L", (6, 4))).size == (6, 4)


def test_no_picture_starts_another_program(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: started.append(a))
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match="a.jpg cannot be read as a picture"):
        open_picture(tmp_path / "a.jpg")
    assert started == [] and not is_picture("a.eps") and "EPS" not in FORMATS


@pytest.mark.parametrize("raised", [Image.DecompressionBombError, SyntaxError, struct.error, KeyError, EOFError])
def test_whatever_pillow_raises_names_the_file(raised, tmp_path, monkeypatch):
    Image.init()  # plugins load images of their own when they are imported
    path = saved(tmp_path / "a.png", Image.new("L", (4, 4)))

    def load(self):
        raise raised()

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(ValueError, match="a.png cannot be read as a picture"):
        open_picture(path)


def test_paths_pairs_and_items_of_data_sets_are_pictures(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("L", (4, 4), 9))
    image = Image.open(path)
    for given in (path, str(path), image, (image, 3), {"image": image, "label": 3}):
        assert as_picture(given, "x").getpixel((0, 0)) == (9, 9, 9)
    with pytest.raises(ValueError, match="Image 3 is a ndarray: give PIL images"):
        as_picture(np.zeros((4, 4, 3)), "Image 3")


def test_suffixes_are_compared_in_any_case():
    assert all(is_picture(name) for name in ("a.jfif", "b.JPG", "c.Avif", "e.TIF", "f.webp"))
    assert not any(is_picture(name) for name in (".a.jpg", "a.jpg.part", "jpg", "a.heic", "a.svg", "._a.png"))


@pytest.mark.parametrize("size, kept", [((2, 20_000), (2, 100)), ((20_000, 3), (150, 3)), ((100, 4999), (100, 4999))])
def test_the_middle_of_a_strip_is_kept(size, kept):
    image = Image.new("RGB", size)
    image.putpixel((size[0] // 2, size[1] // 2), (255, 0, 0))
    middle = as_rgb(image)
    assert middle.size == kept and middle.getpixel((kept[0] // 2, kept[1] // 2)) == (255, 0, 0)


def test_nothing_else_opens_pictures():
    """A second opener would know fewer formats and modes; the drawings that come with the suite are our own."""
    package = Path(__file__).resolve().parents[2] / "kdpl_utils"
    texts = {path.relative_to(package).as_posix(): path.read_text("utf-8") for path in package.rglob("*.py")}
    found = {name for name, text in texts.items() if re.search(r"Image\.open\(|exif_transpose", text)}
    assert found == {"support/pictures.py", "worlds/drawings.py"}
