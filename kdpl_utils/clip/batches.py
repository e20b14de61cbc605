"""Pictures as batches of tensors, as the model sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..support.pictures import as_picture

if TYPE_CHECKING:
    from ..vlm import VLM


class ImageBatches:
    """Pictures as batches of tensors: ``image_batches[indices]`` is (B, 3, H, W) on the model's device.

    Args:
        images: as in ``encode_images``; each picture is opened, or drawn, when it is looked at.
        keep: keep preprocessed pictures in main memory, for pictures looked at again and again, such as shots.
    """

    def __init__(self, vlm: VLM, images: Sequence, keep: bool = False):
        if isinstance(images, str | os.PathLike):
            raise ValueError(f"images is one path, {images}: give a list of pictures, or kd.folder_world(folder).")
        self.vlm = vlm
        # A pandas column is indexed by its labels: take the values in the order in which they stand.
        self.images = images.tolist() if hasattr(images, "tolist") else images
        self.kept: dict[int, Tensor] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor | slice | Sequence[int]) -> Tensor:
        which = indices if isinstance(indices, slice) else torch.as_tensor(indices).cpu()
        rows = torch.arange(len(self))[which].tolist()  # of a slice, of numbers or of a mask, as a tensor's
        if self.kept is not None and all(i in self.kept for i in rows):
            return self._on_device([self.kept[i] for i in rows])
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return self._on_device(list(pool.map(self._preprocessed, rows)))

    def in_order(self, batch_size: int) -> Iterator[Tensor]:
        """All pictures, a batch at a time; the next batch is opened while the caller uses this one."""
        chunks = [range(i, min(i + batch_size, len(self))) for i in range(0, len(self), batch_size)]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            opening = None
            for chunk in [*chunks, range(0)]:
                opened = opening
                opening = pool.map(self._preprocessed, chunk)
                if opened is not None:
                    yield self._on_device(list(opened))

    def _preprocessed(self, i: int) -> Tensor:
        if self.kept is not None and i in self.kept:
            return self.kept[i]
        pixels = self.vlm.preprocess(as_picture(self.images[i], f"Image {i}"))
        if self.kept is not None:
            self.kept[i] = pixels
        return pixels

    def _on_device(self, pixels: list[Tensor]) -> Tensor:
        return torch.stack(pixels).to(self.vlm.device, self.vlm.dtype, non_blocking=True)
