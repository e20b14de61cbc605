"""Runs of hours go on after a stop: the state at the end of an epoch, in a file."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .disk import atomic_write, report_damaged

if TYPE_CHECKING:
    from ..train import History

SECONDS = 60  # at most that often


@dataclass
class EpochKeeper:
    """Writes learner, optimiser, order and history at the end of an epoch, and sets them again after a stop."""

    path: Path | None  # None keeps nothing
    learner: nn.Module
    optimizer: torch.optim.Optimizer
    shuffle: torch.Generator
    averages: list[Tensor]
    history: History
    saved: float = field(default_factory=time.monotonic)

    def keep(self, epochs: int) -> None:
        """Write the state after ``epochs`` epochs, unless it was written less than a minute ago."""
        if self.path is None or time.monotonic() - self.saved < SECONDS:
            return
        state = {
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "shuffle": self.shuffle.get_state(),
            "averages": self.averages,
            "history": vars(self.history),
            "epochs": epochs,
        }
        atomic_write(self.path, lambda part: torch.save(state, part))
        self.saved = time.monotonic()

    def epochs_done(self) -> int:
        """Set everything as the file has it; how many epochs are done, 0 where there is no file."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # a file that was cut short raises any kind
            report_damaged(self.path)
            return 0
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.shuffle.set_state(state["shuffle"])
        for average, kept in zip(self.averages, state["averages"]):
            average.copy_(kept)
        vars(self.history).update(state["history"])
        return state["epochs"]

    def remove(self) -> None:
        """The training is finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
