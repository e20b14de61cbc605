"""Image features on disk: a frozen model sees each picture once, whoever asks and however often."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .files import write_whole
from .vlm import VLM, encode_images


class FeatureCache:
    """A folder of unit image features, one file for each (model, weights, list of pictures).

    Args:
        folder: made when the first file is written; None keeps nothing.
    """

    def __init__(self, folder: str | Path | None):
        self.folder = None if folder is None else Path(folder)

    def features(self, vlm: VLM, images: Sequence, key: str) -> Tensor:
        """``encode_images(vlm, images)``, from the disk where it is there.

        Args:
            key: tells this list of pictures, in this order and these views, from every other one; empty: do not keep.
        """
        of_model = (vlm.name, vlm.pretrained or "", key) if key else None
        return self.tensor(of_model, len(images), lambda: encode_images(vlm, images)).to(vlm.device)

    def tensor(self, key: tuple[str, ...] | None, rows: int, make: Callable[[], Tensor]) -> Tensor:
        """What ``make`` gave when first asked for ``key``; a file that is cut short is made again."""
        if key is None or self.folder is None:
            return make()
        path = self.folder / f"{hashlib.sha256(repr((*key, rows)).encode()).hexdigest()[:24]}.safetensors"
        if path.is_file():
            try:
                return load_file(path)["features"]
            except (SafetensorError, KeyError):
                path.unlink()
        features = make()
        ready = {"features": features.cpu().contiguous()}
        write_whole(path, lambda partial: save_file(ready, partial, {"key": " · ".join(key)}))
        return features
