"""The protocol of the comparisons: what is cached once, and the numbers every method is judged by."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

import torch
from torch import Tensor

from .data import Split, World, few_shot, of_classes
from .evaluate import accuracy, expected_calibration_error, harmonic_mean, paired_bootstrap
from .files import data_root
from .prompts import PromptLearner
from .train import History, Recipe, fit
from .vlm import VLM, encode_images, logits

COLUMNS = ("base", "novel", "H", "base shifted", "novel shifted", "ECE")


@dataclass(frozen=True)
class Features:
    """One model's unit image features of a world, with the labels beside them; nothing is encoded twice.

    Attributes:
        base, novel: (features (N, D), labels (N,) from 0) of the in-domain test pictures of that half.
        shifts: for each shift the same two pairs.
    """

    base: tuple[Tensor, Tensor]
    novel: tuple[Tensor, Tensor]
    shifts: dict[str, tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]


def test_features(vlm: VLM, world: World) -> Features:
    """Encode every test picture of a world, once."""

    def halves(split: Split):
        return tuple(_encoded(vlm, of_classes(split, part)) for part in (world.base, world.novel))

    base, novel = halves(world.test)
    return Features(base, novel, {name: halves(split) for name, split in world.shifts.items()})


def _encoded(vlm: VLM, split: Split) -> tuple[Tensor, Tensor]:
    features = encode_images(vlm, split.images)
    return features, split.labels.to(features.device)


@torch.no_grad()
def scores(
    features: Features, world: World, encode: Callable[[Sequence[str]], Tensor], scale: Tensor | float
) -> dict[str, float]:
    """One row of the results table, per cent.

    Base-to-novel (CoCoOp): among the names of a half only, top-1 on that half's pictures; H their harmonic mean.
    Shifted: the same, averaged over the styles (or data sets) that no picture was adapted to.  ECE: 15 bins, mean of
    the halves, in domain.

    Args:
        encode: names → (C, D) unit text features; ``PromptLearner``, or ``encode_names`` with its model.
    """
    text = [encode([world.classnames[i] for i in half]) for half in (world.base, world.novel)]

    def top1(pair, half: int) -> float:
        return 100 * accuracy(logits(pair[0], text[half], scale), pair[1])

    base, novel = top1(features.base, 0), top1(features.novel, 1)
    ece = [
        expected_calibration_error(logits(pair[0], t, scale).softmax(dim=-1), pair[1])
        for pair, t in zip((features.base, features.novel), text, strict=True)
    ]
    shifted = [[top1(pair, half) for half, pair in enumerate(pairs)] for pairs in features.shifts.values()]
    row = (base, novel, harmonic_mean(base, novel), *(mean(column) for column in zip(*shifted, strict=True)))
    row += (float("nan"),) * (5 - len(row))  # a world without shifts has nothing to say there
    return dict(zip(COLUMNS, (*row, 100 * mean(ece)), strict=True))


def summarise(rows: Sequence[dict[str, float]]) -> dict[str, str]:
    """One line of the table from the rows of several seeds: "mean ± sd" (sample standard deviation)."""
    if len(rows) == 1:
        return {c: f"{rows[0][c]:.1f}" for c in rows[0]}
    return {c: f"{mean(r[c] for r in rows):.1f} ± {stdev(r[c] for r in rows):.1f}" for c in rows[0]}


def learn(
    student: VLM,
    loss: Callable[[PromptLearner, Tensor], Tensor],
    labels: Tensor,
    seed: int,
    recipe: Recipe,
    shots: int = 16,
    on_epoch: Callable[[PromptLearner], dict[str, float]] | None = None,
) -> tuple[PromptLearner, History]:
    """One run of the comparison: a fresh "a photo of a", ``shots`` pictures a class drawn by ``seed``, one loss.

    Args:
        loss: ``loss(prompt, batch)`` with ``batch`` (B,) indices of training pictures.
        labels: (N,) of the training pictures, used here to draw the same number from each class, as the paper does.
        on_epoch: what to measure after each epoch, kept in ``history.metrics``.
    """
    prompt, chosen = PromptLearner(student), few_shot(labels, shots, seed)
    watch = None if on_epoch is None else lambda epoch: on_epoch(prompt)
    history = fit(
        prompt, lambda b: loss(prompt, chosen[b]), len(chosen), replace(recipe, seed=seed), watch, progress=False
    )
    return prompt, history


def claim(what: str, before: Sequence[float] | float, after: Sequence[float]) -> str:
    """The sentence that these runs support: the paired difference with its 95 % interval, or that none was seen."""
    before = [before] * len(after) if isinstance(before, float | int) else before
    difference, low, high = paired_bootstrap(torch.tensor(before), torch.tensor(after))
    verdict = "higher" if low > 0 else "lower" if high < 0 else "no difference seen"
    return f"{what}: {difference:+.1f} [{low:+.1f}, {high:+.1f}] over {len(after)} seeds: {verdict}."


def paper_tables() -> dict:
    """The published numbers for real CLIP, which this suite did not run (``data/paper_tables.json``)."""
    return json.loads((data_root() / "paper_tables.json").read_text(encoding="utf-8"))
