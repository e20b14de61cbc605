"""Features on disk: a frozen model sees each picture once, whoever asks and however often."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..support.disk import digest, say_damaged
from ..support.locks import Busy, alone
from ..support.tensors import check_finite, read_tensors, write_tensors
from ..vlm import VLM, encode_images
from ..worlds.world import Lazy, Split

PART = 4096  # rows in one file: minutes of a large teacher, so little is lost when it is killed

STEP = 512  # pictures; a multiple of what encode_images takes at once, so that steps change no number
BEGUN = ".begun"
KEEP_SECONDS = 30.0


class FeatureCache:
    """A folder of features, in files of ``PART`` rows, for each (model, weights, precision, list of what it saw).

    Processes that ask for the same features share the work: each computes parts that no other is at, then waits for
    the rest. So several GPUs, or several machines with one disk, encode a large list side by side, and what a killed
    one has finished is not lost.

    Args:
        folder: made when the first file is written; None keeps nothing.
    """

    def __init__(self, folder: str | Path | None):
        self.folder = None if folder is None else Path(folder)

    def features(self, vlm: VLM, pictures: Split) -> Tensor:
        """``encode_images(vlm, pictures.images)``, from the disk where it is there; not kept without a key."""
        key = (*vlm.identity, pictures.key) if pictures.key else None

        def encode_rows(rows: range) -> Tensor:
            return encode_images(vlm, lazy_rows(pictures.images, rows))

        return self.tensor(key, len(pictures), encode_rows, STEP).to(vlm.device)

    def tensor(
        self, key: tuple[str, ...] | None, n: int, make: Callable[[range], Tensor], step: int | None = None
    ) -> Tensor:
        """(n, …) on the CPU: what ``make`` gives for rows 0…n-1, a part at a time; each part is made once for ``key``.

        A file that is damaged is made again.

        Args:
            step: rows that ``make`` is asked for at once, by default a whole part; of a part that takes long, what
                there is goes to the disk after a step, so that a killed process repeats a minute at most.
        """
        parts = [range(start, min(start + PART, n)) for start in range(0, n, PART)]
        if key is None or self.folder is None:
            return torch.cat([make(rows).cpu() for rows in parts])
        features_of_rows: dict[range, Tensor] = {}
        for wait in (False, True):  # first what nobody else is at; then what others are at, by now or soon complete
            for rows in parts:
                if rows in features_of_rows:
                    continue
                path = self._path(key, n, rows)
                if (features := _read(path)) is None:
                    try:
                        with alone(self._lock(path), f"encoding features for {self.folder}", wait):
                            features = _read(path)  # somebody may have made it in the meantime
                            if features is None:
                                features = _write(path, _in_steps(path, rows, make, step or PART), key)
                                path.with_suffix(BEGUN).unlink(missing_ok=True)
                    except Busy:
                        continue
                features_of_rows[rows] = features
        return torch.cat([features_of_rows[rows] for rows in parts])

    def _path(self, key: tuple[str, ...], n: int, rows: range) -> Path:
        return self.folder / f"{digest(*key, n)}-{rows.start:08d}.safetensors"

    def _lock(self, path: Path) -> Path:
        return self.folder / "locks" / f"{path.stem}.lock"


def lazy_rows(images: Sequence, rows: range) -> Sequence:
    """These rows, each opened when it is looked at."""
    return images if len(rows) == len(images) else Lazy(len(rows), lambda i: images[rows[i]])


def _read(path: Path) -> Tensor | None:
    """None where there is no file, or no whole one, which is said."""
    if not path.is_file():
        return None
    try:
        features = read_tensors(path)[1]["features"]
        check_finite({"features": features}, str(path))
    except (KeyError, ValueError):  # a damaged file, another one, or one of numbers that are none
        say_damaged(path)
        return None
    return features


def _in_steps(path: Path, rows: range, make: Callable[[range], Tensor], step: int) -> Tensor:
    """The rows of a part, those that a killed process has made taken from the disk."""
    begun = path.with_suffix(BEGUN)
    kept = _read(begun)
    made = [] if kept is None else [kept]
    saved = time.monotonic()
    for start in range(rows.start + sum(map(len, made)), rows.stop, step):
        stop = min(start + step, rows.stop)
        made.append(make(range(start, stop)).cpu())
        if stop < rows.stop and time.monotonic() - saved >= KEEP_SECONDS:
            write_tensors(begun, {"features": torch.cat(made)}, {})
            saved = time.monotonic()
    return made[0] if len(made) == 1 else torch.cat(made)


def _write(path: Path, features: Tensor, key: tuple[str, ...]) -> Tensor:
    ready = features.cpu().contiguous()
    write_tensors(path, {"features": ready}, {"key": " · ".join(key)})
    return ready
