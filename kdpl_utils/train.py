"""One training loop for every loss and every learner: ``loss(learner, batch)``, batch the indices of pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from .support.progress import progress_bar
from .support.resume import EpochKeeper


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the published ones of CoOp and KDPL (SGD, one constant epoch, then a cosine)."""

    epochs: int = 50
    batch_size: int = 32
    lr: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: int = 1
    warmup_lr: float = 1e-5
    seed: int = 0
    # (mean, sd) in epochs: the final weights are a Gaussian-weighted average over the ends of all epochs (PromptSRC).
    average: tuple[float, float] | None = None

    def __post_init__(self):
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.lr < math.inf:
            raise ValueError(f"A recipe needs epochs ≥ 1, batch_size ≥ 1 and a finite lr > 0: {self}.")


@dataclass
class History:
    """What ``fit`` recorded. Two runs of one seed are equal (``==`` leaves the seconds out)."""

    loss: list[float] = field(default_factory=list)  # per step, before its update
    lr: list[float] = field(default_factory=list)  # per step
    metrics: dict[str, list[float]] = field(default_factory=dict)  # per epoch, from on_epoch
    seconds: float = field(default=0.0, compare=False)  # in training steps: on_epoch does not count


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """lr of epoch e = 0…E−1: warmup_lr for e < W, then lr·(1 + cos(π(e − W)/E))/2 (CoOp's schedule, as its code runs).

    >>> [f"{learning_rate(Recipe(), e):.1e}" for e in (0, 1, 49)]
    ['1.0e-05', '2.0e-03', '7.9e-06']
    """
    late = epoch - recipe.warmup_epochs
    return recipe.warmup_lr if late < 0 else recipe.lr * (1 + math.cos(math.pi * late / recipe.epochs)) / 2


def averaging_weights(recipe: Recipe) -> Tensor:
    """(E,) weight of the end of each epoch 1…E, N(epoch; mean, sd²) scaled to sum 1 (PromptSRC, section 3.3)."""
    mean, sd = recipe.average
    epochs = torch.arange(1, recipe.epochs + 1, dtype=torch.float64)
    return (-((epochs - mean) ** 2) / (2 * sd**2)).softmax(0)


@torch.enable_grad()
def fit(
    learner: nn.Module,
    loss: Callable[[nn.Module, Tensor], Tensor],
    n_images: int,
    recipe: Recipe = Recipe(),
    on_epoch: Callable[[nn.Module], Mapping[str, float]] | None = None,
    progress: bool = True,
    resume: Path | None = None,
) -> History:
    """SGD on the parameters of ``learner`` that require a gradient, over shuffled batches of ``range(n_images)``.

    An incomplete last batch is dropped.

    Args:
        loss: ``loss(learner, batch)`` → scalar; ``batch`` (B,) indices of pictures, on the CPU.
        on_epoch: ``on_epoch(learner)`` → metrics, measured after each epoch and kept in ``history.metrics``.
        resume: for runs of hours, a file from which a stopped training goes on at the end of an epoch.

    Raises:
        FloatingPointError: the loss, or a parameter at the end, is not finite.
    """
    params = [p for p in learner.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    steps = max(1, n_images // recipe.batch_size)
    shuffle = torch.Generator().manual_seed(recipe.seed)  # our own: no other random number changes the order
    history = History()
    averages = [torch.zeros_like(p) for p in params] if recipe.average else []
    weights = averaging_weights(recipe).tolist() if recipe.average else []
    keeper = EpochKeeper(resume, learner, optimizer, shuffle, averages, history)
    done = keeper.epochs_done()
    bar = progress_bar(total=recipe.epochs * steps, initial=done * steps, unit="step", disable=not progress)
    for epoch in range(done, recipe.epochs):
        start = time.perf_counter()
        lr = optimizer.param_groups[0]["lr"] = learning_rate(recipe, epoch)
        for batch in torch.randperm(n_images, generator=shuffle).split(recipe.batch_size)[:steps]:
            value = loss(learner, batch)
            if not value.isfinite():
                cause = f"lower lr, now {lr}" if history.loss else "look for logits or features that are not finite"
                raise FloatingPointError(f"The loss is {value.item()} in step {len(history.loss)}: {cause}.")
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            history.loss.append(value.item())
            history.lr.append(lr)
            bar.update()
        history.seconds += time.perf_counter() - start
        with torch.no_grad():
            for average, p in zip(averages, params):
                average.add_(p, alpha=weights[epoch])
            for name, metric in (on_epoch(learner) if on_epoch else {}).items():
                history.metrics.setdefault(name, []).append(float(metric))
        keeper.keep(epoch + 1)
    bar.close()
    with torch.no_grad():
        for average, p in zip(averages, params):
            p.copy_(average)
    if not all(p.isfinite().all() for p in params):
        raise FloatingPointError(f"Parameters are not finite after the last step: lower lr, now {recipe.lr}.")
    optimizer.zero_grad()
    keeper.remove()
    return history
