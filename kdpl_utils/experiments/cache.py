"""Features on disk: a frozen model sees each picture once, whoever asks and however often."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..support.disk import as_path, digest, say_damaged
from ..support.locks import Busy, alone
from ..support.prefetch import openers
from ..support.tensors import check_finite, read_tensors, write_tensors
from ..vlm import VLM, encode_images
from ..worlds.world import Contents, Lazy, Split

PART = 4096  # rows in one file: minutes of a large teacher, so little is lost when it is killed
MOST_READ = 50_000  # files whose bytes are compared; of longer lists names, sizes and dates are
STEP = 512  # pictures; a multiple of what encode_images takes at once, so that steps change no number
BEGUN = ".begun"
KEEP_SECONDS = 30.0


class FeatureCache:
    """A folder of features, in files of ``PART`` rows, for each (model, weights, precision, list of what it saw).

    Processes that ask for the same features share the work: each computes parts that no other is at, then waits for
    the rest. So several GPUs, or several machines with one disk, encode a large list side by side, and what a killed
    one has finished is not lost.

    Of pictures in files, the list is told by their bytes. Where some have changed, come or gone since it was last
    asked for, only those are encoded that were not there before.

    Args:
        folder: made when the first file is written; None keeps nothing.
    """

    def __init__(self, folder: str | Path | None):
        self.folder = None if folder is None else as_path(folder)

    def features(self, vlm: VLM, pictures: Split) -> Tensor:
        """``encode_images(vlm, pictures.images)``, from the disk where it is there; not kept without a key."""
        key = (*vlm.identity, pictures.key) if pictures.key else None

        def encode_rows(rows: range) -> Tensor:
            return encode_images(vlm, lazy_rows(pictures.images, rows))

        return self.tensor(key, len(pictures), encode_rows, STEP, pictures.contents).to(vlm.device)

    def tensor(
        self,
        key: tuple[str, ...] | None,
        n: int,
        make: Callable[[Sequence[int]], Tensor],
        step: int | None = None,
        contents: Contents | None = None,
    ) -> Tensor:
        """(n, …) on the CPU: what ``make`` gives for rows 0…n-1, a part at a time; each part is made once for ``key``.

        A file that is damaged is made again.

        Args:
            step: rows that ``make`` is asked for at once, by default a whole part; of a part that takes long, what
                there is goes to the disk after a step, so that a killed process repeats a minute at most.
            contents: what tells each row from any other; the last word of ``key``, which tells the list, does not
                count then.
        """
        parts = [range(start, min(start + PART, n)) for start in range(0, n, PART)]
        if key is None or self.folder is None:
            return torch.cat([make(rows).cpu() for rows in parts])
        names = None if contents is None or n > MOST_READ else list(openers().map(contents.of, range(n)))
        stem = digest(*key, n) if names is None else f"{digest(*key[:-1], contents.place)}-{digest(names)}"
        features_of_rows: dict[range, Tensor] = {}
        for wait in (False, True):  # first what nobody else is at; then what others are at, by now or soon complete
            for rows in parts:
                if rows in features_of_rows:
                    continue
                path = self._path(stem, rows)
                if (features := _read(path)) is None:
                    try:
                        with alone(self._lock(path), f"encoding features for {self.folder}", wait):
                            features = _read(path)  # somebody may have made it in the meantime
                            if features is None:
                                features = _made(path, rows, make, step or PART, names)
                                _write(path, rows, features, names, " · ".join(key))
                                path.with_suffix(BEGUN).unlink(missing_ok=True)
                    except Busy:
                        continue
                features_of_rows[rows] = features
        return torch.cat([features_of_rows[rows] for rows in parts])

    def _path(self, stem: str, rows: range) -> Path:
        return self.folder / f"{stem}-{rows.start:08d}.safetensors"

    def _lock(self, path: Path) -> Path:
        return self.folder / "locks" / f"{path.stem}.lock"


def lazy_rows(images: Sequence, rows: Sequence[int]) -> Sequence:
    """These rows, each opened when it is looked at."""
    return images if len(rows) == len(images) else Lazy(len(rows), lambda i: images[rows[i]])


def _read(path: Path) -> Tensor | None:
    """None where there is no file, or no whole one, which is said."""
    kept = _read_named(path)
    return None if kept is None else kept[1]


def _read_named(path: Path) -> tuple[list[str], Tensor] | None:
    """The names of the rows, if they have any, and their features."""
    if not path.is_file():
        return None
    try:
        header, tensors = read_tensors(path)
        features = tensors["features"]
        check_finite({"features": features}, str(path))
    except (KeyError, ValueError):  # a damaged file, another one, or one of numbers that are none
        say_damaged(path)
        return None
    return header.get("rows", "").split(), features


def _made(
    path: Path, rows: range, make: Callable[[Sequence[int]], Tensor], step: int, names: Sequence[str] | None
) -> Tensor:
    """The rows of a part, those that were made before taken from the disk; what an error leaves undone is not lost."""
    made = _begun(path, rows) if names is None else _same(path, rows, names)
    missing = rows[len(made) :] if names is None else [row for row in rows if row not in made]
    saved = time.monotonic()
    try:
        for start in range(0, len(missing), step):
            some = missing[start : start + step]
            made.update(zip(some, make(some).cpu()))
            if len(made) < len(rows) and time.monotonic() - saved >= KEEP_SECONDS:
                _keep(path, made, names)
                saved = time.monotonic()
    except Exception:  # a picture that cannot be read, say: the next try need not repeat the others
        _keep(path, made, names)
        raise
    return torch.stack([made[row] for row in rows])


def _begun(path: Path, rows: range) -> dict[int, Tensor]:
    """The first rows of a part, as a killed process left them."""
    kept = _read(path.with_suffix(BEGUN))
    return {} if kept is None else dict(zip(rows, kept))


def _same(path: Path, rows: range, names: Sequence[str]) -> dict[int, Tensor]:
    """The rows of a part that were there before, wherever in the list; the youngest files are looked at first."""
    place = path.name.split("-")[0]
    wanted = {names[row] for row in rows}
    found: dict[str, Tensor] = {}
    for file in sorted(path.parent.glob(f"{place}-*"), key=_written, reverse=True):
        kept = _read_named(file) if len(found) < len(wanted) else None
        if kept is not None:
            found.update((name, feature) for name, feature in zip(*kept) if name in wanted)
    return {row: found[names[row]] for row in rows if names[row] in found}


def _written(path: Path) -> float:
    """When; of a file that another process has removed since, long ago."""
    try:
        return os.path.getmtime(path)
    except FileNotFoundError:
        return 0.0


def _keep(path: Path, made: Mapping[int, Tensor], names: Sequence[str] | None) -> None:
    if made:
        features = torch.stack(list(made.values()))
        _write(path.with_suffix(BEGUN), list(made), features, names)


def _write(path: Path, rows: Sequence[int], features: Tensor, names: Sequence[str] | None, key: str = "") -> None:
    header = {} if names is None else {"rows": " ".join(names[row] for row in rows)}
    write_tensors(path, {"features": features}, {**header, "key": key})
