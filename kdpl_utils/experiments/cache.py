"""Features on disk: a frozen model encodes each image once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..support.disk import as_path, digest, read_tensors, report_damaged, write_tensors
from ..vlm import VLM, encode_images, encode_names

if TYPE_CHECKING:
    from ..worlds.world import Split

PART = 4096  # rows a file: minutes of a large model, so a killed process loses little


class FeatureCache:
    """A folder of features in files of ``PART`` rows, found again by model, weights, precision and split.

    Several processes may share it: files are written atomically, and each process takes the parts in a random order,
    so that two processes rarely encode the same part.
    """

    def __init__(self, folder: str | Path, progress: bool = False):
        self.folder = as_path(folder)
        self.progress = progress

    def features(self, vlm: VLM, split: Split) -> Tensor:
        """``encode_images(vlm, split.images)``, from the disk where it is there; not kept for a split without a key."""
        if not split.key:
            return encode_images(vlm, split.images, progress=self.progress)
        encode = lambda rows: encode_images(vlm, split.subset(rows).images, progress=self.progress)  # noqa: E731
        return self._parts((*vlm.identity, split.key), len(split), encode).to(vlm.device)

    def names(self, vlm: VLM, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """``encode_names(vlm, names, templates)``, from the disk where it is there."""
        key = (*vlm.identity, digest(list(names), templates))
        encode = lambda rows: encode_names(vlm, [names[i] for i in rows], templates)  # noqa: E731
        return self._parts(key, len(names), encode).to(vlm.device)

    def _parts(self, key: tuple[str, ...], n: int, encode: Callable[[range], Tensor]) -> Tensor:
        """(n, D) on the CPU: each part from its file, which ``encode(rows)`` makes where it is missing."""
        parts = {}
        for start in random.Random().sample(range(0, n, PART), -(-n // PART)):
            rows = range(start, min(start + PART, n))
            path = self.folder / f"{digest(*key, n)}-{start:08d}.safetensors"
            parts[start] = _read(path, len(rows))
            if parts[start] is None:
                parts[start] = encode(rows).cpu()
                write_tensors(path, {"features": parts[start]}, {"key": " · ".join(key)})
        return torch.cat([parts[start] for start in sorted(parts)])


def _read(path: Path, n: int) -> Tensor | None:
    """The n rows of a file; None if it is missing or damaged, which is reported."""
    if not path.is_file():
        return None
    try:
        features = read_tensors(path)[1]["features"]
    except (ValueError, KeyError):
        features = torch.empty(0)
    if len(features) == n and features.isfinite().all():
        return features
    report_damaged(path)
    return None
