"""The one way in for pictures: whatever a file, a tar member or a PIL object holds becomes upright 8-bit RGB on white.

Every picture of the suite comes through ``open_picture`` or, where somebody else opened it, through ``as_rgb``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from .disk import as_path

# What a file's name must end with, and what its content may then be.  Pillow itself goes by the content alone, and of
# its some forty formats EPS starts another program (Ghostscript) and others have no signature.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp",
    ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpf", ".jpx", ".avif",
)  # fmt: skip
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
# Pictures that are not opened here, which is said where other files beside pictures are none of anybody's business.
OTHER_SUFFIXES = (
    ".heic", ".heif", ".jxl", ".tga", ".psd", ".svg", ".pdf", ".eps", ".ico", ".exr", ".hdr", ".dds", ".pcx", ".qoi",
    ".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".dcm", ".fits", ".xcf", ".ai", ".wmf", ".emf",
)  # fmt: skip
REFUSED = ("EPS",)  # also of those that somebody else opened: Pillow starts Ghostscript when it is first looked at

ORIENTATION = 0x0112  # in EXIF: how the camera was held
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LONGEST = 50  # times the shorter side: of a longer strip a model that crops its centre is given the middle


def is_picture(name: str) -> bool:
    """By its name alone; hidden files (macOS writes ``._photo.jpg``) are none."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def open_picture(
    source: str | Path | BinaryIO, name: str | None = None, upright: bool = True, only_look: bool = False
) -> Image.Image:
    """The picture as RGB (``as_rgb``); of an animation or a document the first one.

    Args:
        source: a path, or the open content of a file.
        name: what the picture is called in errors; by default its path.
        upright: turn it as its camera noted; left as it is in the published data sets, as everywhere.
        only_look: read all of it, but make it smaller where that is quicker: to learn whether it can be read.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no picture of a kind in ``FORMATS``, was cut short, or has more pixels than Pillow opens.
    """
    name = str(source) if name is None else name
    if isinstance(source, str | Path):
        _check_file(source, name)
    try:
        with Image.open(source, formats=_formats()) as image:
            if only_look:
                image.draft(None, (1, 1))  # a JPEG is decoded at an eighth of its size
            image.load()
            picture = as_rgb(image, upright)
    except Exception as error:  # whatever a damaged file makes Pillow raise: SyntaxError, struct.error, KeyError, …
        raise ValueError(unreadable(name, error)) from error
    return _without_notes(picture)


def unreadable(name: str, error: Exception) -> str:
    """The sentence about a picture that cannot be read."""
    return f"{name} cannot be read as a picture ({_reason(error)}): fetch or convert it again, or remove it."


def as_rgb(image: Image.Image, upright: bool = True) -> Image.Image:
    """Any PIL picture as 8-bit RGB: turned as its camera noted, wide numbers scaled, laid on white.

    * Where EXIF is broken, the picture stays as it is.
    * 16-bit numbers are scaled to 8 bits.  32-bit and floating-point ones have no agreed range: 0…1, 0…255 or
      0…65535 is taken, whichever is the first that holds them, or else their own smallest and largest.
    * What is transparent becomes white: drawings are mostly dark.

    Raises:
        Exception: what Pillow raises when it reads the picture now, for the first time; a ValueError if it is EPS, or
            has no finite numbers.
    """
    plain = type(image) is Image.Image  # no file behind it that may hold more than is known before it is read
    if plain and image.mode == "RGB" and not {"exif", "xmp", "XML:com.adobe.xmp", "transparency"} & set(image.info):
        return image
    if getattr(image, "format", None) in REFUSED:
        raise ValueError(f"it is {image.format}, which another program would have to draw")
    image.load()
    return _on_white(_turned(image) if upright else image)


def as_picture(given: object, name: str) -> Image.Image:
    """A picture as RGB, given as PIL object or as a path.

    Raises:
        FileNotFoundError, ValueError: it is something else, or cannot be read.
    """
    if isinstance(given, str | Path):
        return open_picture(as_path(given))
    if isinstance(given, Image.Image):
        try:
            return as_rgb(given)
        except Exception as error:  # as in open_picture: Pillow reads a file when it is first looked at
            raise ValueError(unreadable(getattr(given, "filename", "") or name, error)) from error
    raise ValueError(f"{name} is a {type(given).__name__}: give PIL images, a folder or a Split.")


def middle_of_strip(image: Image.Image) -> Image.Image:
    """Of a picture more than ``LONGEST`` times as long as wide its middle, any other as it is.

    CLIP's preprocessing makes the shorter side 224 pixels and then keeps the central square: of 2 × 20,000 pixels it
    would make 224 × 2,240,000 first.
    """
    width, height = image.size
    most = LONGEST * min(width, height)
    if max(width, height) <= most:
        return image
    left, top = max(0, (width - most) // 2), max(0, (height - most) // 2)
    return image.crop((left, top, left + min(width, most), top + min(height, most)))


def _check_file(path: str | Path, name: str) -> None:
    """A pipe or a device would be waited for without end."""
    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        raise ValueError(f"{name} is a folder, no picture.")
    if os.path.exists(path):
        raise ValueError(f"{name} cannot be read as a picture (it is no regular file): remove it.")
    if os.path.islink(path):
        raise FileNotFoundError(f"{name} is a link to {os.readlink(path)}, which is not there: mend or remove it.")
    raise FileNotFoundError(f"There is no file {name}: check its path.")


@functools.cache
def _formats() -> Sequence[str]:
    """``FORMATS``, without those that an older Pillow does not know."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"its content is none of {', '.join(_formats())}"
    if isinstance(error, Image.DecompressionBombError):
        return "it has more pixels than Pillow opens: make it smaller"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _turned(image: Image.Image) -> Image.Image:
    try:
        method = UPRIGHT.get(image.getexif().get(ORIENTATION))
    except Exception:  # broken EXIF, which raises almost anything, says nothing about how the camera was held
        method = None
    return image if method is None else image.transpose(method)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # I, I;16 and its byte orders, F
        image = _eight_bits(image)
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # Of a PNG with sixteen bits, of whose pixels Pillow keeps the upper eight.
        image.info["transparency"] = tuple(number >> 8 for number in key)
    rgba = image.convert("RGBA")
    ground = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(ground, rgba).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """A picture of wide numbers as mode L; the grey that a PNG calls transparent as white."""
    numbers = np.asarray(image).astype(np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        raise ValueError("it has no finite numbers")
    low, high = numbers[finite].min(), numbers[finite].max()
    sixteen = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
    ranges = [65535] if sixteen else [1, 255, 65535] if image.mode == "F" else [255, 65535]
    most = next((most for most in ranges if 0 <= low and high <= most), None)
    if most is None:
        scaled = (numbers - low) * (255 / max(high - low, np.finfo(float).tiny))
    else:
        scaled = numbers * (255 / most)
    scaled[~finite] = 0
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        scaled[numbers == transparent] = 255
    return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))


def _without_notes(picture: Image.Image) -> Image.Image:
    """Without EXIF and the like: what has been turned is not turned again."""
    picture.info = {}
    return picture
