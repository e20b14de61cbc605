"""Unlabelled pictures by the million: webdataset shards (``.tar``), never unpacked.

``Shards`` reads them from front to back, wherever they lie; ``tar_pictures`` finds the place of each picture in local
ones, so that a world can open any of them when it is looked at.
"""

from __future__ import annotations

import glob
import gzip
import io
import lzma
import os
import re
import tarfile
import warnings
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ..support.disk import as_path
from ..support.extras import optional
from ..support.pictures import OTHER_SUFFIXES, is_picture, open_picture
from ..support.values import listed, whole
from .finding import in_words
from .photos import TarPicture, readable

BROKEN_TAR = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


class Shards:
    """The pictures of tar files in their order: iterating gives (key, PIL RGB), again from the start each time.

    Each is opened as in a folder (``open_picture``): turned as its camera noted, on white.

    A key is ``<shard>/<member>``, as ``train-000.tar/0001.jpg``: it depends neither on where the shards lie nor on
    which others are read, so features can be stored under it.  Only one picture is in memory at a time.

    >>> for keys, images in Shards("/data/train-{000..146}.tar").batches(256):    # doctest: +SKIP
    ...     features = encode_images(teacher, images)

    Args:
        shards: paths or addresses, one or many.  ``{000..146}`` counts, ``*`` looks which files are there (sorted).
            ``https:`` and ``pipe:`` addresses are read through the package webdataset.
        part: (k, n) takes every n-th shard from the k-th on, for n processes side by side; k from 0.
        skip: keys that are done already; their pictures are not decoded.
        unreadable: ``"raise"``, or ``"skip"``, which warns at the end.

    Raises:
        FileNotFoundError: no such shard.
        ValueError: fewer shards than parts; while iterating, a picture that cannot be read or a shard cut short.
    """

    def __init__(
        self,
        shards: str | Path | Iterable[str | Path],
        part: tuple[int, int] = (0, 1),
        skip: Container[str] = (),
        unreadable: str = "raise",
    ):
        if unreadable not in ("raise", "skip"):
            raise ValueError(f"unreadable = {unreadable!r}: choose 'raise' or 'skip'.")
        every = _every(shards)
        names = [_name(shard) for shard in every]
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"Two shards are called {double}, so their keys could be the same: rename one of them.")
        if not isinstance(part, list | tuple) or len(part) != 2:
            raise ValueError(f"part = {part!r}: give (k, n) to take every n-th shard from the k-th on.")
        index, count = whole(part[0], "the first of part", 0), whole(part[1], "the second of part", 1)
        if not 0 <= index < count <= len(every):
            raise ValueError(
                f"part = {part} of {len(every)} shards: give (k, n) with 0 ≤ k < n, and at least n shards, so that "
                "each process has one."
            )
        self.shards, self.unreadable = every[index::count], unreadable
        # What can be read only once would be used up at the first key; of one text every part of it would be a key.
        self.skip = set(listed(skip)) if isinstance(skip, str | Iterator) else skip

    def __iter__(self) -> Iterator[tuple[str, Image.Image]]:
        bad = []
        for shard in self.shards:
            for key, content in self._members(shard):
                try:
                    picture = open_picture(io.BytesIO(content), key)
                except ValueError as error:
                    if self.unreadable == "raise":
                        message = f"{key} cannot be read as a picture: remove it, or say unreadable='skip'."
                        raise ValueError(message) from error
                    bad.append(key)
                    continue
                yield key, picture
        if bad:
            shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
            warnings.warn(f"{len(bad)} members cannot be read as pictures and were skipped: {shown}.", stacklevel=2)

    def _members(self, shard: str) -> Iterator[tuple[str, bytes]]:
        try:
            with _open(shard) as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
                for member in archive:
                    key = f"{_name(shard)}/{member.name.removeprefix('./')}"
                    if member.isfile() and is_picture(key.rsplit("/", 1)[1]) and key not in self.skip:
                        yield key, archive.extractfile(member).read()
        except BROKEN_TAR as error:
            raise ValueError(f"{shard} is no tar file, or was cut short ({error}): fetch it again.") from error

    def batches(self, size: int) -> Iterator[tuple[list[str], list[Image.Image]]]:
        """(keys, pictures) of ``size`` at a time; the last batch may be smaller."""
        size = whole(size, "size", 1)
        keys, images = [], []
        for key, image in self:
            keys.append(key)
            images.append(image)
            if len(keys) == size:
                yield keys, images
                keys, images = [], []
        if keys:
            yield keys, images


def is_shards(path: str | Path) -> bool:
    """Whether this names ``.tar`` files rather than a folder."""
    return bool(re.search(r"\.tar\b", Path(path).name)) and not Path(path).is_dir()


def tar_pictures(shards: str | Path | Iterable[str | Path]) -> list[TarPicture]:
    """The pictures of local shards, in their order; only headers are read.

    Raises:
        ValueError: a shard that is compressed, remote, cut short or no tar file; or no picture in any of them.
    """
    found, others = [], Counter()
    for shard in _every(shards):
        if _is_remote(shard):
            raise ValueError(f"{shard} lies elsewhere: fetch it to open its pictures in any order, or use Shards.")
        try:
            with tarfile.open(shard, "r:") as archive:
                for member in archive:
                    name = member.name.rsplit("/", 1)[-1]
                    if member.isfile() and is_picture(name):
                        place = member.name.removeprefix("./"), member.offset_data, member.size
                        found.append(TarPicture(shard, *place))
                    elif name.lower().endswith(OTHER_SUFFIXES):
                        others[Path(name).suffix.lower()] += 1
        except BROKEN_TAR as error:
            message = f"{shard} is compressed, cut short, or no tar file ({error}): unpack it with gunzip, or fetch it"
            raise ValueError(f"{message} again.") from error
    if others:
        sentence = f"{others.total()} pictures in {shards} are of kinds that are not opened: {in_words(others)}"
        warnings.warn(f"{sentence}; convert them to JPEG or PNG.", stacklevel=4)
    found = readable(found)
    if not found:
        raise ValueError(f"There is no picture that can be read in {shards}: give .tar files of JPEG or PNG files.")
    return found


def _every(shards: str | Path | Iterable[str | Path]) -> list[str]:
    return [one for pattern in ([shards] if isinstance(shards, str | Path) else shards) for one in _expand(pattern)]


def _name(shard: str) -> str:
    """The file's own name, also in https://host/train-000.tar?token=… and pipe:aws s3 cp s3://…/train-000.tar -"""
    named = re.findall(r"[^/\\\s?]+\.tar\b[.\w]*", shard)
    return named[-1] if named else re.split(r"[/\\]", shard)[-1]


def _is_remote(shard: str) -> bool:
    return bool(re.match(r"\w{2,}:", shard))  # one letter is a drive of Windows


def _expand(pattern: str | Path) -> list[str]:
    """The shards that a pattern stands for."""
    pattern = str(pattern)
    if counted := re.search(r"\{(\d+)\.\.(\d+)\}", pattern):
        first, last = counted.groups()
        if int(first) > int(last):
            raise ValueError(f"{pattern} counts from {first} to {last}, which are no shards: begin with the smaller.")
        numbers = (f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1))
        return [one for n in numbers for one in _expand(pattern[: counted.start()] + n + pattern[counted.end() :])]
    if _is_remote(pattern):
        return [pattern]
    path = os.path.abspath(as_path(pattern))
    found = sorted(glob.glob(glob.escape(path).replace("[*]", "*"))) if "*" in path else [path] * Path(path).is_file()
    if not found:
        raise FileNotFoundError(f"There is no shard {path}: give .tar files, such as /data/train-{{000..146}}.tar.")
    return found


def _open(shard: str) -> BinaryIO:
    if _is_remote(shard):
        return optional("webdataset", "stream").gopen(shard)
    return open(shard, "rb")
