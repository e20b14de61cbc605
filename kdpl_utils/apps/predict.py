"""Naming what is in pictures, one after another: many cost no more memory than one, and a broken one costs no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from ..support.pictures import open_picture
from ..support.prefetch import ahead
from ..worlds.finding import find_pictures

Row = list[tuple[str, float]]  # names with probabilities


def named_pictures(predict: Callable[[Sequence], list[Row]], paths: Sequence[Path]) -> Iterator[tuple[str, Row, str]]:
    """For each picture its path and what ``predict`` says of it, or why it cannot be read.

    A folder stands for all pictures in it, at any depth.

    Args:
        predict: PIL pictures → for each of them names with probabilities.
    """
    for path, image, problem in ahead(_opened, _every(paths)):
        yield path, [] if image is None else predict([image])[0], problem


def _every(paths: Sequence[Path]) -> Iterator[str]:
    for path in paths:
        if path.is_dir():
            yield from find_pictures(path)
        else:
            yield str(path)


def _opened(path: str) -> tuple[str, Image.Image | None, str]:
    try:
        return path, open_picture(path), ""
    except (ValueError, OSError) as error:
        return path, None, str(error)
