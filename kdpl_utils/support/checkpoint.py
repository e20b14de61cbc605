"""The state of a training on disk, so that a killed process goes on where it was, to the same bits."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .disk import Damaged, as_path, digest, say_damaged
from .tensors import may_be_tensors, read_tensors, write_tensors

KEEP_SECONDS = 20.0  # between two states: so much, and the step under way, is repeated at most


class Checkpoint:
    """A file that holds the state of one training, written every ``KEEP_SECONDS``.

    Args:
        path: of the file; safetensors, nothing in it is pickled.
        key: what tells the training from others beside its recipe and learner, which `fit` sees itself: a digest of
            its pictures, names and teacher.
        stays: leave the finished state for the caller to ``remove`` once the result is kept; by default it is removed
            when the training ends.

    Raises:
        ValueError: the path is that of a folder.
    """

    def __init__(self, path: str | Path, key: str = "", stays: bool = False):
        self.path, self.key, self.stays = as_path(path), key, stays
        if self.path.is_dir():
            raise ValueError(
                f"{self.path} is a folder: give the path of a file, in which the training keeps its state."
            )
        self._kept = time.monotonic()

    def read(self, owner: str) -> tuple[dict[str, str], dict[str, Tensor]] | None:
        """Header and tensors as they were kept; None where there is no file, or a damaged one, which is said.

        Raises:
            ValueError: the state is that of another training, or the file is somebody's own.
        """
        if not self.path.is_file():
            return None
        try:
            header, tensors = read_tensors(self.path)
        except Damaged as error:
            if not may_be_tensors(self.path):  # it would be written over, and removed at the end
                raise ValueError(
                    f"{self.path} is there and holds no state of a training: name another file."
                ) from error
            say_damaged(self.path)
            return None
        if header.get("owner") != digest(owner, self.key):
            raise ValueError(
                f"{self.path} holds the state of another training, of another recipe, learner or data: remove it, or "
                "name another file."
            )
        put_generators_back(header, tensors)
        return header, tensors

    def is_due(self) -> bool:
        return time.monotonic() - self._kept >= KEEP_SECONDS

    def keep(self, owner: str, header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
        """Write the state in place of the last one; what is kept is whole at any moment."""
        numbers, generators = random_generators()
        whole_header = {**header, "owner": digest(owner, self.key), "generators": numbers}
        write_tensors(self.path, {**tensors, **generators}, whole_header)
        self._kept = time.monotonic()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


Kept = str | Path | Checkpoint  # where a training may be told to keep its state


def digest_of_tensors(tensors: Iterable[Tensor]) -> str:
    """Changes with any bit of any of them."""
    hashed = hashlib.sha256()
    for tensor in tensors:
        hashed.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()[:24]


def random_generators() -> tuple[str, dict[str, Tensor]]:
    """Where the global generators of Python, NumPy and PyTorch stand: small numbers as JSON, and tensors."""
    kind, words, *rest = np.random.get_state()
    tensors = {"generator numpy": torch.from_numpy(words.astype(np.int64)), "generator torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for i, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"generator cuda {i}"] = state
    return json.dumps({"python": random.getstate(), "numpy": [kind, *rest]}), tensors


def put_generators_back(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    numbers = json.loads(header["generators"])
    version, words, gauss = numbers["python"]
    random.setstate((version, tuple(words), gauss))
    kind, *rest = numbers["numpy"]
    np.random.set_state((kind, tensors["generator numpy"].numpy().astype(np.uint32), *rest))
    torch.set_rng_state(tensors["generator torch"])
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            if f"generator cuda {i}" in tensors:
                torch.cuda.set_rng_state(tensors[f"generator cuda {i}"], i)
