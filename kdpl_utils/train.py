"""One training loop for any loss: a loss is a function of the indices of a batch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import LongTensor, Tensor, nn

from .support.checkpoint import Checkpoint, Kept, digest_of_tensors
from .support.disk import digest
from .support.guard import guarded_step
from .support.memory import Fitting
from .support.prefetch import ahead
from .support.progress import progress_bar
from .support.tensors import check_finite
from .support.values import by_name, plain, real, seed_of, shown, whole

MOST_LR = 1e3  # beyond it no prompt was ever learned, and the first step may leave the numbers that float32 holds


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
        """Whatever library the numbers come from, they become Python's own, which a file can hold."""
        checked = {
            "epochs": whole(self.epochs, "epochs", 1),
            "batch_size": whole(self.batch_size, "batch_size", 1),
            "lr": real(self.lr, "lr", 0, MOST_LR, above=True),
            "momentum": real(self.momentum, "momentum", 0, 1),
            "weight_decay": real(self.weight_decay, "weight_decay", 0, MOST_LR),
            "warmup_epochs": whole(self.warmup_epochs, "warmup_epochs", 0),
            "warmup_lr": real(self.warmup_lr, "warmup_lr", 0, MOST_LR),
            "seed": seed_of(self.seed),
            "average": _pair_of_epochs(self.average),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def checked_recipe(recipe: object) -> Recipe:
    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe is {shown(recipe)}: give a kd.Recipe, such as kd.Recipe(epochs=10, lr=0.05).")
    return recipe


def _pair_of_epochs(average: object) -> tuple[float, float] | None:
    pair = plain(average, "average")
    if pair is None:
        return None
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2 and all(type(x) in (int, float) for x in pair)
    if not is_pair or not abs(pair[0]) <= 1e6 or not 1e-3 <= pair[1] <= 1e6:
        raise ValueError(f"average is (mean, standard deviation) in epochs, the latter above 0.001: not {average!r}.")
    return tuple(pair)


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


class _State:
    """All that a training changes: what it learns, momentum, averages, history, and what the learner remembers.

    ``learner.memory()``, where there is one, gives dictionaries of tensors by name that the learner fills on its way:
    which names were encoded side by side decides their last bit.
    """

    def __init__(self, learner: nn.Module, recipe: Recipe):
        self.params = [p for p in learner.parameters() if p.requires_grad]
        if not self.params:
            raise ValueError("Nothing to learn: no parameter of the learner requires a gradient.")
        # Not of modules in eval mode, whose buffers stay as they are.
        modules = [module for module in learner.modules() if module.training]
        self.buffers = [b for module in modules for b in module.buffers(recurse=False)]
        self.optimizer = torch.optim.SGD(self.params, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
        self.averages = [torch.zeros_like(p) for p in self.params] if recipe.average else []
        self.memory = learner.memory() if hasattr(learner, "memory") else {}
        self.history = History()

    def step(self, loss: Callable[[object], Tensor], fetched: object) -> float:
        """One update; the loss before it."""
        return guarded_step(self.optimizer, self.params, loss(fetched), len(self.history.loss), fetched)

    def keep(self, checkpoint: Checkpoint, owner: str) -> None:
        momenta = [self.optimizer.state[p].get("momentum_buffer") for p in self.params]
        lists = {"param": self.params, "buffer": self.buffers, "average": self.averages, "momentum": momenta}
        tensors = {f"{kind} {i}": t for kind, one in lists.items() for i, t in enumerate(one) if t is not None}
        for key, features in self.memory.items():
            if features:
                tensors[f"memory {key}"] = torch.stack(list(features.values()))
        names = {key: list(features) for key, features in self.memory.items()}
        checkpoint.keep(owner, {"history": json.dumps(asdict(self.history)), "names": json.dumps(names)}, tensors)

    @torch.no_grad()
    def go_on(self, checkpoint: Checkpoint, owner: str) -> None:
        """Be as it was kept; nothing happens where nothing was."""
        kept = checkpoint.read(owner)
        if kept is None:
            return
        header, tensors = kept
        self.history = History(**json.loads(header["history"]))
        for kind, one in (("param", self.params), ("buffer", self.buffers), ("average", self.averages)):
            for i, tensor in enumerate(one):
                tensor.copy_(tensors[f"{kind} {i}"])
        for i, p in enumerate(self.params):
            if f"momentum {i}" in tensors:
                self.optimizer.state[p]["momentum_buffer"] = tensors[f"momentum {i}"].to(p.device)
        for key, names in json.loads(header["names"]).items():
            if names:
                self.memory[key].update(zip(names, tensors[f"memory {key}"].to(self.params[0].device)))


@torch.enable_grad()  # also when called where gradients are off, as in the middle of an evaluation
def fit(
    learner: nn.Module,
    loss: Callable[[object], Tensor],
    n_images: int,
    recipe: Recipe = Recipe(),
    on_epoch: Callable[[int], Mapping[str, float]] | None = None,
    progress: bool = True,
    fetch: Callable[[LongTensor], object] = lambda rows: rows,
    rows_of: Callable[[LongTensor], LongTensor] = lambda batch: batch,
    checkpoint: Kept | None = None,
) -> History:
    """SGD on the parameters of ``learner`` that require a gradient, over shuffled batches of ``range(n_images)``.

    ``loss`` maps what ``fetch`` made of a batch to a scalar. ``rows_of`` maps the batch indices (B,) to what ``fetch``
    gets; both leave them as they are by default. ``fetch`` runs one batch ahead in another thread: it may decode
    pictures, say. ``on_epoch`` maps the epoch just finished to metrics. An incomplete last batch is dropped. With
    ``recipe.average`` the parameters end at their average over the epochs. Modes are left alone: the BatchNorm of a
    frozen ResNet has to stay in eval.

    With a ``checkpoint``, a path, the state is kept there every ``KEEP_SECONDS``: called again with the same arguments
    in a new process, the training goes on from there and ends with the same bits (on a CPU, with as many threads).
    For that ``loss`` and ``fetch`` depend on nothing but their argument and the learner; ``rows_of`` may count, as it
    is called for every batch again. The file is removed at the end.
    """
    n_images, recipe = whole(n_images, "n_images", 1), checked_recipe(recipe)
    if not isinstance(learner, nn.Module):
        raise ValueError(f"The learner is a {type(learner).__name__}: give the module whose parameters are learned.")
    check_finite(dict(learner.named_parameters()), "The learner to train")
    state = _State(learner, recipe)
    checkpoint = Checkpoint(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint
    owner = _owner(learner, state.params, n_images, recipe) if checkpoint else ""
    if checkpoint:
        state.go_on(checkpoint, owner)
    history, done, steps = state.history, len(state.history.loss), max(1, n_images // recipe.batch_size)
    weights = averaging_weights(recipe).tolist() if recipe.average else []
    fitting = Fitting()  # on a GPU that has no room for a whole step, each is computed in chunks
    with progress_bar(total=recipe.epochs * steps, initial=done, disable=not progress, unit="step") as bar:
        for epoch, batches in enumerate(_batches(n_images, steps, recipe, rows_of)):
            if done >= (epoch + 1) * steps:
                continue
            start = time.perf_counter()
            lr = state.optimizer.param_groups[0]["lr"] = learning_rate(recipe, epoch)
            for fetched in ahead(fetch, batches[max(0, done - epoch * steps) :]):
                history.loss.append(fitting(partial(state.step, loss, fetched)))
                history.lr.append(lr)
                bar.set_postfix(epoch=epoch + 1, loss=f"{history.loss[-1]:.3f}", refresh=False)
                bar.update()
                if checkpoint and checkpoint.is_due() and len(history.loss) % steps:
                    history.seconds += time.perf_counter() - start
                    start = time.perf_counter()
                    state.keep(checkpoint, owner)
            history.seconds += time.perf_counter() - start
            with torch.no_grad():
                for average, p in zip(state.averages, state.params):
                    average.add_(p, alpha=weights[epoch])
                for name, value in by_name(on_epoch and on_epoch(epoch), "on_epoch").items():
                    history.metrics.setdefault(name, []).append(float(value))
            if checkpoint and checkpoint.is_due():
                state.keep(checkpoint, owner)
    with torch.no_grad():
        for average, p in zip(state.averages, state.params):
            p.copy_(average)
    check_finite(dict(learner.named_parameters()), "The learner at the end of training")
    state.optimizer.zero_grad()
    if checkpoint and checkpoint.stays:
        state.keep(checkpoint, owner)
    elif checkpoint:
        checkpoint.remove()
    return history


def _batches(
    n_images: int, steps: int, recipe: Recipe, rows_of: Callable[[LongTensor], LongTensor]
) -> Iterator[list[LongTensor]]:
    """The batches of each epoch: drawn from the seed, so that a training that goes on draws them again."""
    shuffle = torch.Generator().manual_seed(recipe.seed)  # our own: no other random number moves the order
    for _ in range(recipe.epochs):
        order = torch.randperm(n_images, generator=shuffle)  # on the CPU, where it can index tensors of any device
        yield [rows_of(batch) for batch in order.split(recipe.batch_size)[:steps]]


def _owner(learner: nn.Module, params: list[Tensor], n_images: int, recipe: Recipe) -> str:
    """What tells a training from others, as far as it can be seen here: the start says which model it is."""
    kind = (type(learner).__module__, type(learner).__qualname__, getattr(learner, "settings", None))
    return digest(kind, digest_of_tensors(params), n_images, recipe)
