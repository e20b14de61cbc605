"""The one way in for pictures: every file and PIL object becomes upright 8-bit RGB on white."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
# By content, whatever the suffix: for EPS, another of Pillow's formats, Pillow starts another program (Ghostscript).
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
LONGEST = 50  # times the shorter side; CLIP's preprocessing would make millions of pixels of a longer strip


def is_picture(name: str) -> bool:
    """Judge a file by its name alone; hidden files (macOS writes ``._photo.jpg``) are not pictures."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def open_picture(source: str | Path | BinaryIO, upright: bool = True) -> Image.Image:
    """Open a picture as RGB (``as_rgb``); of an animation the first frame.

    Args:
        upright: Turn it as its camera noted. Published data sets are not turned, as in other code.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a picture of a kind in ``FORMATS``, or is cut short.
    """
    Image.init()
    try:
        with Image.open(source, formats=[kind for kind in FORMATS if kind in Image.OPEN]) as image:
            picture = as_rgb(image, upright)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise SyntaxError, struct.error, KeyError, …
        raise ValueError(f"{source} cannot be read as a picture ({error}): convert or remove it.") from error
    picture.info = {}  # without EXIF: what has been turned is not turned again
    return picture


def as_picture(given: object, name: str) -> Image.Image:
    """Return a picture as RGB.

    Args:
        given: A PIL picture or a path; a (picture, label) pair, as torch's data sets have; or a dict with ``image``,
            as Hugging Face's have.
        name: What an error calls it.
    """
    if isinstance(given, tuple | list):
        given = given[0]
    elif isinstance(given, Mapping):
        given = given["image"]
    if isinstance(given, str | Path):
        return open_picture(given)
    if not isinstance(given, Image.Image):
        raise ValueError(f"{name} is a {type(given).__name__}: give PIL images, paths, a folder or a Split.")
    if given.format == "EPS":  # Pillow would start Ghostscript when it is read
        raise ValueError(f"{name} is EPS, which another program would have to draw: convert it.")
    return as_rgb(given)


def as_rgb(image: Image.Image, upright: bool = True) -> Image.Image:
    """Convert to 8-bit RGB: upright, wide numbers scaled, on white (most drawings are dark), the middle of a strip."""
    image.load()
    has_sixteen_bits = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
    try:
        if upright and image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # else Pillow would copy it
            image = ImageOps.exif_transpose(image)
    except Exception:  # noqa: S110  broken EXIF raises almost anything and leaves the picture as it is
        pass
    longest = LONGEST * min(image.size)
    if max(image.size) > longest:
        left, top = (max(0, (side - longest) // 2) for side in image.size)
        image = image.crop((left, top, image.width - left, image.height - top))
    if image.mode[0] in "IF":  # 16 and 32 bits, floating point
        image = _eight_bits(image, has_sixteen_bits)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _eight_bits(image: Image.Image, has_sixteen_bits: bool) -> Image.Image:
    """Scale 16 bits by 65,535, other numbers by the first of 1 (floats), 255 and 65,535 that holds all of them."""
    numbers = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
    ranges = [65535] if has_sixteen_bits else [1, 255, 65535] if image.mode == "F" else [255, 65535]
    highest = next((highest for highest in ranges if numbers.max() <= highest), numbers.max())
    return Image.fromarray(np.rint(numbers * (255 / highest)).clip(0, 255).astype(np.uint8))
