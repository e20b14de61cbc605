"""What a GPU has no room for at once: halved, and said."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Made = TypeVar("Made")
ENDS = "end what else runs there, load models with precision='bf16', or take a smaller model."


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
                raise MemoryError(f"The GPU has no room for {self.work}, one at a time: {ENDS}")
            warnings.warn(f"The GPU has no room for {self.work}: {self.most} at a time from here on.", stacklevel=2)

    def _made(self, parts: Sequence[Sequence]) -> Tensor | None:
        """None where the memory did not suffice."""
        try:
            done = [self.compute(part) for part in parts]
            return done[0] if len(done) == 1 else torch.cat(done)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()  # what the failed try had in pieces
            return None


# --- a training step, whose gradient needs what was computed ---------------------------------------------------------


class Chunks:
    """How much of a training step is computed at once; what its gradient needs is kept for so much at most.

    Attributes:
        most: pictures, or prompts; None is all of them.
        largest: what was computed at once since this was made.
    """

    def __init__(self, most: int | None = None):
        self.most, self.largest = most, 0


_chunks: ContextVar[Chunks | None] = ContextVar("chunks", default=None)


@contextmanager
def _in(chunks: Chunks) -> Iterator[None]:
    token = _chunks.set(chunks)
    try:
        yield
    finally:
        _chunks.reset(token)


def most_at_once() -> int | None:
    """How many pictures or prompts this training step has room for; None as long as it had room for all."""
    chunks = _chunks.get()
    return None if chunks is None else chunks.most


def chunk_of(n: int) -> int:
    """How many of n pictures or prompts, which would be kept for the gradient, this training step keeps at once."""
    chunks = _chunks.get()
    if chunks is None:
        return n
    size = min(n, chunks.most or n)
    chunks.largest = max(chunks.largest, size)
    return size


def in_chunks(compute: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """``compute(rows)``, B rows → (B, …), each row for itself, in the chunks that this training step has room for.

    Of several chunks none is kept for the gradient: each is computed again when its gradient is due, which is exact.
    """
    if _chunks.get() is None:  # no training step: an export to ONNX must not learn how many rows it was shown
        return compute(rows)
    size = chunk_of(len(rows))
    if size >= len(rows):
        return compute(rows)
    return torch.cat([again_for_the_gradient(compute, part) for part in rows.split(size)])


def again_for_the_gradient(compute: Callable[..., Made], *given: object) -> Made:
    """``compute(*given)``, of which nothing is kept: it is computed a second time when its gradient is due."""
    return checkpoint(compute, *given, use_reentrant=False, preserve_rng_state=False)


class Fitting:
    """Training steps in chunks as large as there is room for, which is remembered for the next step."""

    def __init__(self):
        self.most: int | None = None

    def __call__(self, step: Callable[[], Made]) -> Made:
        """What the step gives; it is done again, in chunks half as large, where the memory did not suffice.

        Args:
            step: changes nothing before all of its memory was there: a loss, its gradient, then the update.

        Raises:
            MemoryError: there is no room for a chunk of one.
        """
        while True:
            chunks = Chunks(self.most)
            try:
                with _in(chunks):
                    return step()
            except torch.cuda.OutOfMemoryError as error:
                torch.cuda.empty_cache()  # what the failed try had in pieces
                self.most = chunks.largest // 2
                if not self.most:
                    raise MemoryError(f"The GPU has no room for a training step, one at a time: {ENDS}") from error
            warnings.warn(
                f"The GPU has no room for a training step: {self.most} at a time from here on, which takes longer and "
                "learns the same.",
                stacklevel=3,
            )
