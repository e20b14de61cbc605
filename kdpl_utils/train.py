"""One training loop for any loss: a loss is a function of the indices of a batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import LongTensor, Tensor, nn
from tqdm import tqdm

from .support.prefetch import ahead


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
    # (mean, sd) in epochs: the final weights are a Gaussian-weighted average over the ends of all epochs.
    average: tuple[float, float] | None = None

    def __post_init__(self):
        if self.average is not None and self.average[1] <= 0:
            raise ValueError(f"average is (mean, standard deviation) in epochs, the latter above 0: {self.average}.")
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"A recipe needs epochs and batch_size of at least 1: {self}.")


@dataclass
class History:
    """What `fit` saw. Two runs of one seed are equal (``==`` leaves the seconds out)."""

    loss: list[float] = field(default_factory=list)  # a step, before its update
    lr: list[float] = field(default_factory=list)  # a step
    metrics: dict[str, list[float]] = field(default_factory=dict)  # an epoch, from on_epoch
    seconds: float = field(default=0.0, compare=False)  # in training steps: on_epoch does not count


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """lr of epoch e = 0…E−1: warmup_lr for e < W, then lr·(1 + cos(π(e − W)/E))/2 (CoOp's schedule, as its code runs).

    The cosine has the period E but starts W epochs late, so that it ends above 0.

    >>> [f"{learning_rate(Recipe(), e):.1e}" for e in (0, 1, 49)]
    ['1.0e-05', '2.0e-03', '7.9e-06']
    """
    late = epoch - recipe.warmup_epochs
    return recipe.warmup_lr if late < 0 else recipe.lr * (1 + math.cos(math.pi * late / recipe.epochs)) / 2


def averaging_weights(recipe: Recipe) -> Tensor:
    """(E,) weight of the end of each epoch 1…E, N(epoch; mean, sd²) scaled to sum 1 (PromptSRC, section 3.3).

    >>> averaging_weights(Recipe(epochs=20, average=(15, 1)))[12:17].numpy().round(3).tolist()  # epochs 13 to 17
    [0.054, 0.242, 0.399, 0.242, 0.054]
    """
    mean, sd = recipe.average
    epochs = torch.arange(1, recipe.epochs + 1, dtype=torch.float64)
    return (-((epochs - mean) ** 2) / (2 * sd**2)).softmax(0)


def _step(optimizer: torch.optim.SGD, params: list[Tensor], value: Tensor, step: int) -> float:
    """One update, or an error and no update."""
    if value.numel() != 1:
        raise ValueError(f"The loss must be one number (a mean over the batch), not of shape {tuple(value.shape)}.")
    if value.isfinite():
        optimizer.zero_grad()
        if value.requires_grad:
            value.backward()
        grads = [p.grad for p in params if p.grad is not None]
        if not grads:
            raise ValueError(
                "The loss depends on nothing learnable: compute it from the learner's output in each step."
            )
        if all(g.isfinite().all() for g in grads):
            optimizer.step()
            return value.item()
    raise FloatingPointError(
        f"The loss ({value.item():g}) or its gradient is not finite at step {step}; the parameters are as before it: "
        "lower the learning rate, or train in float32."
    )


@torch.enable_grad()  # also when called where gradients are off, as in the middle of an evaluation
def fit(
    learner: nn.Module,
    loss: Callable[[object], Tensor],
    n_images: int,
    recipe: Recipe = Recipe(),
    on_epoch: Callable[[int], Mapping[str, float]] | None = None,
    progress: bool = True,
    fetch: Callable[[LongTensor], object] = lambda batch: batch,
) -> History:
    """SGD on the parameters of ``learner`` that require a gradient, over shuffled batches of ``range(n_images)``.

    ``loss`` maps what ``fetch`` made of the batch indices (B,) to a scalar; by default it gets the indices themselves.
    ``fetch`` runs one batch ahead in another thread: it may decode pictures, say. ``on_epoch`` maps the epoch just
    finished to metrics. An incomplete last batch is dropped. With ``recipe.average`` the parameters end at their
    average over the epochs. Modes are left alone: the BatchNorm of a frozen ResNet has to stay in eval.
    """
    params = [p for p in learner.parameters() if p.requires_grad]
    if not params:
        raise ValueError("Nothing to learn: no parameter of the learner requires a gradient.")
    if n_images < 1:
        raise ValueError(f"Nothing to learn from: n_images is {n_images}.")
    optimizer = torch.optim.SGD(params, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    shuffle = torch.Generator().manual_seed(recipe.seed)  # our own: no other random number moves the order
    history, steps = History(), max(1, n_images // recipe.batch_size)
    weights = averaging_weights(recipe).tolist() if recipe.average else []
    averages = [torch.zeros_like(p) for p in params] if weights else []
    with tqdm(total=recipe.epochs * steps, disable=not progress, unit="step") as bar:
        for epoch in range(recipe.epochs):
            start = time.perf_counter()
            lr = optimizer.param_groups[0]["lr"] = learning_rate(recipe, epoch)
            order = torch.randperm(n_images, generator=shuffle)  # on the CPU, where it can index tensors of any device
            batches = order.split(recipe.batch_size)[:steps]
            for fetched in ahead(fetch, batches):
                history.loss.append(_step(optimizer, params, loss(fetched), len(history.loss)))
                history.lr.append(lr)
                bar.set_postfix(epoch=epoch + 1, loss=f"{history.loss[-1]:.3f}", refresh=False)
                bar.update()
            history.seconds += time.perf_counter() - start
            with torch.no_grad():
                for average, p in zip(averages, params):
                    average.add_(p, alpha=weights[epoch])
                for name, value in (on_epoch(epoch) if on_epoch else {}).items():
                    history.metrics.setdefault(name, []).append(float(value))
    with torch.no_grad():
        for average, p in zip(averages, params):
            p.copy_(average)
    optimizer.zero_grad()
    return history
