"""Batches that a GPU has no room for: halved, and said."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Halving:
    """``compute`` on as many rows at once as there is room for, which is remembered for the next batch.

    Args:
        compute: B rows → (B, …), each row for itself.
        work: what it does, for the sentence that says that a batch was halved.

    Raises:
        MemoryError: there is no room for a single row.
    """

    def __init__(self, compute: Callable[[Sequence], Tensor], work: str):
        self.compute, self.work, self.most = compute, work, None

    def __call__(self, batch: Sequence) -> Tensor:
        while True:
            if self.most is None or len(batch) <= self.most:
                parts = [batch]
            else:
                parts = [batch[start : start + self.most] for start in range(0, len(batch), self.most)]
            made = self._made(parts)
            if made is not None:
                return made
            self.most = min(len(batch), self.most or len(batch)) // 2
            if not self.most:
                raise MemoryError(
                    f"The GPU has no room for {self.work}, one at a time: end what else runs there, load models with "
                    "precision='bf16', or take a smaller model."
                )
            warnings.warn(f"The GPU has no room for {self.work}: {self.most} at a time from here on.", stacklevel=2)

    def _made(self, parts: Sequence[Sequence]) -> Tensor | None:
        """None where the memory did not suffice."""
        try:
            done = [self.compute(part) for part in parts]
            return done[0] if len(done) == 1 else torch.cat(done)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()  # what the failed try had in pieces
            return None
