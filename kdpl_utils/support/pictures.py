"""The one way in for pictures: whatever a file or a PIL object holds becomes upright 8-bit RGB on white."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
# By content, whatever the suffix says: of Pillow's others EPS starts another program (Ghostscript).
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
LONGEST = 50  # times the shorter side: of a longer strip, models that crop the centre get the middle


def is_picture(name: str) -> bool:
    """By its name alone; hidden files (macOS writes ``._photo.jpg``) are none."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def open_picture(source: str | Path | BinaryIO, upright: bool = True) -> Image.Image:
    """The picture as RGB (``as_rgb``); of an animation the first one.

    Args:
        upright: turn it as its camera noted; published data sets are left as they are, as everywhere.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no picture of a kind in ``FORMATS``, or was cut short.
    """
    Image.init()
    try:
        with Image.open(source, formats=[kind for kind in FORMATS if kind in Image.OPEN]) as image:
            picture = as_rgb(image, upright)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever a damaged file makes Pillow raise: SyntaxError, struct.error, KeyError, …
        raise ValueError(f"{source} cannot be read as a picture ({error}): convert or remove it.") from error
    picture.info = {}  # without EXIF: what has been turned is not turned again
    return picture


def as_picture(given: object, name: str) -> Image.Image:
    """A picture as RGB, given as PIL object, as path, or as an item of a data set that holds one.

    Args:
        given: a picture or path; a (picture, label) pair, as torch's data sets have; or a dict with ``image``, as
            Hugging Face's have.
    """
    if isinstance(given, tuple | list):
        given = given[0]
    elif isinstance(given, Mapping):
        given = given["image"]
    if isinstance(given, str | Path):
        return open_picture(given)
    if not isinstance(given, Image.Image):
        raise ValueError(f"{name} is a {type(given).__name__}: give PIL images, paths, a folder or a Split.")
    return as_rgb(given)


def as_rgb(image: Image.Image, upright: bool = True) -> Image.Image:
    """Any PIL picture as 8-bit RGB: turned as its camera noted, wide numbers scaled, laid on white.

    What is transparent becomes white: drawings are mostly dark. The middle is cut out of strips longer than
    ``LONGEST`` times their width, which CLIP's preprocessing would make millions of pixels long.
    """
    image.load()
    try:
        image = ImageOps.exif_transpose(image) if upright else image
    except Exception:  # noqa: S110  broken EXIF, which raises almost anything, says nothing about the camera
        pass
    width, height = image.size
    most = LONGEST * min(width, height)
    if max(width, height) > most:
        left, top = max(0, (width - most) // 2), max(0, (height - most) // 2)
        image = image.crop((left, top, left + min(width, most), top + min(height, most)))
    if image.mode[0] in "IF":  # 16 and 32 bits, floating point
        image = _eight_bits(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Wide numbers scaled by the first of 1, 255 and 65,535 that holds them; 16 bits always by 65,535."""
    numbers = np.nan_to_num(np.asarray(image, dtype=np.float64))
    is_sixteen = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
    ranges = [65535] if is_sixteen else [1, 255, 65535] if image.mode == "F" else [255, 65535]
    most = next((most for most in ranges if numbers.max() <= most), numbers.max())
    return Image.fromarray(np.rint(numbers * (255 / most)).clip(0, 255).astype(np.uint8))


def readable(images: Sequence) -> tuple[list[int], list[str]]:
    """The rows of the pictures that can be opened, and a sentence for each of the others."""

    def reason(i: int) -> str:
        try:
            as_picture(images[i], f"Image {i}")
        except (ValueError, OSError) as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        reasons = list(pool.map(reason, range(len(images))))
    return [i for i, text in enumerate(reasons) if not text], [text for text in reasons if text]
