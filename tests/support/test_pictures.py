"""The one opener of pictures: what any of them becomes, and what it says of one that is none."""

import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdpl_utils.support.pictures import (
    FORMATS,
    SUFFIXES,
    as_picture,
    as_rgb,
    is_picture,
    middle_of_strip,
    open_picture,
)

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
        np.rint(65535 * RAMP).astype(">u2"),
        np.rint(65535 * RAMP).astype(np.int32),
        GREY.astype(np.int32),
        (2e9 * RAMP - 1e9).astype(np.int32),
        RAMP.astype(np.float32),
        GREY.astype(np.float32),
        (65535 * RAMP).astype(np.float32),
        (7 * RAMP - 3).astype(np.float32),
        (1e30 * RAMP).astype(np.float32),
    ],
    ids=["16 bit", "big-endian", "16 in 32 bit", "8 in 32 bit", "32 bit", "0…1", "0…255", "0…65535", "own", "huge"],
)
def test_wide_numbers_are_scaled(tmp_path, numbers):
    image = Image.fromarray(numbers)
    np.testing.assert_allclose(greys(as_rgb(image)), GREY, atol=1)
    np.testing.assert_allclose(greys(open_picture(saved(tmp_path / "a.tif", image))), GREY, atol=1)


def test_a_dark_picture_of_sixteen_bits_stays_dark(tmp_path):
    """Its file says how wide its numbers are; that they are all small does not make it bright."""
    image = Image.fromarray(np.full((4, 4), 200, np.uint16))
    for name in ("a.png", "a.tif", "a.pgm"):
        assert greys(open_picture(saved(tmp_path / name, image))).max() == 1


def test_numbers_that_are_none_are_black_and_nothing_but_them_is_refused():
    numbers = RAMP.astype(np.float32)
    numbers[0, 5], numbers[0, 6] = np.nan, np.inf
    assert greys(as_rgb(Image.fromarray(numbers)))[0, [5, 6, 7]].tolist() == [0, 0, 7]
    with pytest.raises(ValueError, match="mine cannot be read as a picture .it has no finite numbers"):
        as_picture(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "mine")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "RGBa", "PA"])
def test_what_is_transparent_is_white(mode, tmp_path):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (0, 0, 0, 255))
    image.putpixel((2, 2), (0, 0, 0, 128))
    image = image.convert("LA") if mode == "La" else image
    white = greys(as_rgb(image.convert(mode)))
    assert (white[0, 0], white[1, 1]) == (255, 0) and 120 < white[2, 2] < 135


@pytest.mark.parametrize("mode, key", [("L", 7), ("RGB", (7, 7, 7)), ("1", 0), ("P", 7), ("P", bytes([255] * 7 + [0]))])
def test_a_transparent_colour_is_white(mode, key, tmp_path):
    image = Image.new(mode, (4, 4), (7, 7, 7) if mode == "RGB" else 0 if mode == "1" else 7)
    if mode == "P":
        image.putpalette([3] * 768)
    image.putpixel((1, 1), (9, 9, 9) if mode == "RGB" else 1)
    opened = greys(open_picture(saved(tmp_path / "a.png", image, transparency=key)))
    assert opened[0, 0] == 255 and opened[1, 1] == {"L": 1, "RGB": 9, "1": 255, "P": 3}[mode]


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth, colour, pixel, transparent=b""):
    """A PNG of 4 × 4 equal pixels, written by hand: Pillow writes no sixteen bits in colour."""
    head = struct.pack(">IIBBBBB", 4, 4, depth, colour, 0, 0, 0)
    rows = (b"\0" + pixel * 4) * 4
    chunks = png_chunk(b"IHDR", head) + (png_chunk(b"tRNS", transparent) if transparent else b"")
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def test_sixteen_bits_with_a_transparent_colour():
    grey, colour = struct.pack(">H", 40000), struct.pack(">HHH", 40000, 20000, 10)
    for content, plain in ((png(16, 0, grey), (156, 156, 156)), (png(16, 2, colour), (156, 78, 0))):
        assert open_picture(io.BytesIO(content), "a").getpixel((0, 0)) == pytest.approx(plain, abs=1)
    for content in (png(16, 0, grey, grey), png(16, 2, colour, colour)):
        assert open_picture(io.BytesIO(content), "a").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_other_mode_keeps_its_colours(mode):
    colour = (255, 255, 255) if mode in ("1", "L") else (200, 60, 40)
    image = Image.new("RGB", (4, 4), colour)
    if mode == "LAB":
        from PIL import ImageCms

        image = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
                                          outputMode="LAB")  # fmt: skip
    opened = as_rgb(image if mode == "LAB" else image.convert(mode))
    assert opened.mode == "RGB" and opened.getpixel((1, 1)) == pytest.approx(colour, abs=40 if mode == "P" else 12)


TURNED = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10).convert("RGB")
BACK = {1: [], 2: ["FLIP_LEFT_RIGHT"], 3: ["ROTATE_180"], 4: ["FLIP_TOP_BOTTOM"], 5: ["TRANSPOSE"],
        6: ["ROTATE_90"], 7: ["TRANSVERSE"], 8: ["ROTATE_270"]}  # fmt: skip


@pytest.mark.parametrize("orientation", BACK)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_pictures_stand_upright(orientation, suffix, tmp_path):
    held, exif = TURNED, Image.Exif()
    for step in BACK[orientation]:
        held = held.transpose(Image.Transpose[step])
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix == "jpg" else {}
    path = saved(tmp_path / f"a.{suffix}", held, exif=exif, **options)
    opened = open_picture(path)
    np.testing.assert_allclose(np.asarray(opened), np.asarray(TURNED), atol=6)
    assert as_rgb(opened) is opened  # and is not turned twice
    with Image.open(path) as lazy:
        np.testing.assert_array_equal(np.asarray(as_picture(lazy, "mine")), np.asarray(opened))
    if suffix != "tif":  # Pillow itself turns TIFF
        as_it_lies = open_picture(path, upright=False)
        assert as_it_lies.size == held.size and as_rgb(as_it_lies) is as_it_lies


BROKEN_EXIF = {
    "no header": b"Exif\0\0nonsense",
    "cut": b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12",
    "text for a number": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0",
    "far away": b"Exif\0\0MM\0*\xff\xff\xff\xff",
    "no such turn": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x2a\0\0\0\0\0\0",
    "empty": b"Exif\0\0",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", BROKEN_EXIF)
def test_broken_exif_leaves_the_picture_as_it_is(kind, tmp_path):
    for name in ("a.jpg", "a.png", "a.webp"):
        path = saved(tmp_path / name, Image.new("RGB", (6, 4), "red"), exif=BROKEN_EXIF[kind])
        assert open_picture(path).size == (6, 4)


@pytest.mark.parametrize("raised", [AttributeError, TypeError, struct.error, KeyError, RecursionError])
def test_exif_may_raise_anything(raised, monkeypatch):
    def getexif(self):
        raise raised("broken")

    monkeypatch.setattr(Image.Image, "getexif", getexif)
    assert as_rgb(Image.new("L", (6, 4))).size == (6, 4)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n"


def test_no_picture_starts_another_program(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: started.append(a))
    for name in ("a.jpg", "a.png", "a.eps"):
        (tmp_path / name).write_bytes(EPS)
        with pytest.raises(ValueError, match=f"{name} cannot be read as a picture .its content is none of JPEG"):
            open_picture(tmp_path / name)
    with pytest.raises(ValueError, match="a.jpg cannot be read as a picture .it is EPS"):
        as_picture(Image.open(tmp_path / "a.jpg"), "mine")
    assert started == [] and not is_picture("a.eps") and "EPS" not in FORMATS


@pytest.mark.parametrize("kind", ["PCX", "SGI", "ICO", "TGA", "DDS", "IM", "PDF"])
def test_only_the_listed_formats_are_opened(kind, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (16, 16)).save(path, kind)
    with pytest.raises(ValueError, match="a.png cannot be read as a picture .its content is none of"):
        open_picture(path)


@pytest.mark.parametrize(
    "raised", [Image.DecompressionBombError, SyntaxError, struct.error, KeyError, MemoryError, EOFError, AttributeError]
)
def test_whatever_pillow_raises_names_the_file(raised, tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", Image.new("L", (4, 4)))

    def load(self):
        raise raised()

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(ValueError, match=r"a.png cannot be read as a picture \(.+\): fetch or convert it again"):
        open_picture(path)


def test_an_interrupt_is_no_broken_picture(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", Image.new("L", (4, 4)))

    def load(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(KeyboardInterrupt):
        open_picture(path)


def test_a_bomb_is_named(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", Image.new("1", (300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="a.png cannot be read as a picture .it has more pixels than Pillow opens"):
        open_picture(path)


def test_what_is_no_file_is_said(tmp_path):
    (tmp_path / "b.png").symlink_to("nowhere.png")
    (tmp_path / "c.png").mkdir()
    os.mkfifo(tmp_path / "d.png")
    for name, error, sentence in (
        ("a.png", FileNotFoundError, "There is no file .*a.png: check its path"),
        ("b.png", FileNotFoundError, "b.png is a link to nowhere.png, which is not there"),
        ("c.png", ValueError, "c.png is a folder, no picture"),
        ("d.png", ValueError, "d.png cannot be read as a picture .it is no regular file"),
    ):
        with pytest.raises(error, match=sentence):
            open_picture(tmp_path / name)
    with pytest.raises(ValueError, match="Image 3 is a ndarray: give PIL images"):
        as_picture(np.zeros((4, 4, 3)), "Image 3")


def test_a_path_is_a_picture_too(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("L", (4, 4), 9))
    assert as_picture(str(path), "x").getpixel((0, 0)) == as_picture(path, "x").getpixel((0, 0)) == (9, 9, 9)


def test_looking_decodes_less_and_still_reads_to_the_end(tmp_path):
    noise = Image.effect_noise((512, 512), 90).convert("RGB")
    path = saved(tmp_path / "a.jpg", noise)
    assert open_picture(path).size == (512, 512) and open_picture(path, only_look=True).size == (64, 64)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match="a.jpg cannot be read as a picture .image file is truncated"):
        open_picture(path, only_look=True)


def test_suffixes_are_told_in_any_case():
    for name in ("a.jfif", "b.JPG", "c.Avif", "d.jpe", "e.TIF", "f.webp"):
        assert is_picture(name), name
    for name in (".a.jpg", "a.jpg.part", "jpg", "a.heic", "a.svg", "a.eps", "._a.png"):
        assert not is_picture(name), name
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)


@pytest.mark.parametrize("size, kept", [((2, 20_000), (2, 100)), ((20_000, 3), (150, 3)), ((100, 4999), (100, 4999))])
def test_of_a_strip_the_middle_is_kept(size, kept):
    image = Image.new("RGB", size)
    image.putpixel((size[0] // 2, size[1] // 2), (255, 0, 0))
    middle = middle_of_strip(image)
    assert middle.size == kept and middle.getpixel((kept[0] // 2, kept[1] // 2)) == (255, 0, 0)
    assert size != kept or middle is image


def test_nothing_else_opens_pictures():
    """A second opener would know fewer formats and modes; the drawings that come with the suite are our own."""
    package = Path(__file__).resolve().parents[2] / "kdpl_utils"
    calls = re.compile(r"Image\.open\(|exif_transpose")
    texts = {path.relative_to(package).as_posix(): path.read_text("utf-8") for path in package.rglob("*.py")}
    found = {name for name, text in texts.items() if calls.search(text)}
    assert found == {"support/pictures.py", "worlds/drawings.py"}
