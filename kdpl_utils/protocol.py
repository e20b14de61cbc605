"""The protocol of the comparisons: what is cached once, and the numbers every method is judged by."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .clip.batches import ImageBatches
from .evaluate import accuracy, expected_calibration_error, harmonic_mean, paired_interval
from .shots import few_shot
from .support.shipped import data_root
from .train import History, Recipe, fit
from .vlm import VLM, encode_images, logits

if TYPE_CHECKING:
    from .worlds.world import Split, World

COLUMNS = ("base", "novel", "H", "base shifted", "novel shifted", "ECE")


@dataclass(frozen=True)
class TestSets:
    """The test pictures of a world as inputs of a learner, with the labels beside them.

    Attributes:
        base, novel: (inputs, labels (N,) from 0) of the in-domain test pictures of that half; inputs are unit image
            features (N, D), or ``ImageBatches`` for learners that change the image tower.
        shifts: for each shift the same two pairs.
    """

    base: tuple[Tensor | ImageBatches, Tensor]
    novel: tuple[Tensor | ImageBatches, Tensor]
    shifts: dict[str, tuple[tuple[Tensor | ImageBatches, Tensor], tuple[Tensor | ImageBatches, Tensor]]]


def test_features(vlm: VLM, world: World) -> TestSets:
    """Encode every test picture of a world, once."""
    return test_sets(world, vlm.device, lambda split: encode_images(vlm, split.images))


def test_images(vlm: VLM, world: World, keep: bool = False) -> TestSets:
    """Every test picture of a world as ``ImageBatches``; ``keep`` them preprocessed where many learners look at them."""
    return test_sets(world, vlm.device, lambda split: ImageBatches(vlm, split.images, keep))


def test_sets(world: World, device: torch.device, inputs: Callable[[Split], Tensor | ImageBatches]) -> TestSets:
    """The halves of every test split, each as ``inputs`` gives it."""

    def halves(split: Split):
        parts = (split.of_classes(half) for half in (world.base, world.novel))
        return tuple((inputs(part), part.labels.to(device)) for part in parts)

    base, novel = halves(world.test)
    return TestSets(base, novel, {name: halves(split) for name, split in world.shifts.items()})


def scores(
    tests: TestSets, world: World, encode: Callable[[Sequence[str]], Tensor], scale: Tensor | float
) -> dict[str, float]:
    """``classifier_scores`` of text features behind cached image features.

    Args:
        encode: names → (C, D) unit text features; ``PromptLearner``, or ``encode_names`` with its model.
    """

    def classifier(names: Sequence[str]) -> Callable[[Tensor], Tensor]:
        text = encode(names)
        return lambda features: logits(features, text, scale)

    return classifier_scores(tests, world, classifier)


@torch.no_grad()
def classifier_scores(
    tests: TestSets,
    world: World,
    classifier: Callable[[Sequence[str]], Callable[[Tensor], Tensor]],
    open_vocabulary: bool = True,
) -> dict[str, float]:
    """One row of the results table, per cent.

    Base-to-novel (CoCoOp): among the names of a half only, top-1 on that half's pictures; H their harmonic mean.
    Shifted: the same, mean over the styles (or data sets) that none was adapted to. ECE: 15 bins, mean of the halves.

    Args:
        classifier: names → (images → logits), as ``Learner.classifier``; each half's names are encoded once.
        open_vocabulary: whether it can name novel classes; where not, what depends on them is NaN.
    """
    halves = (world.base, world.novel) if open_vocabulary else (world.base,)
    # Base pictures are named among base names only, novel ones among novel names only (CoCoOp's protocol).
    classify_half = [classifier([world.classnames[c] for c in half]) for half in halves]

    def logits_of(pair: tuple[Tensor | ImageBatches, Tensor], half: int) -> tuple[Tensor, Tensor]:
        inputs, labels = pair
        return all_logits(classify_half[half], inputs), labels

    row = dict.fromkeys(COLUMNS, float("nan"))  # what is not measured stays so
    if tests.shifts:
        for half, column in zip(range(len(halves)), ("base shifted", "novel shifted")):
            row[column] = mean(100 * accuracy(*logits_of(pairs[half], half)) for pairs in tests.shifts.values())
    base_logits, base_labels = logits_of(tests.base, 0)
    row["base"] = 100 * accuracy(base_logits, base_labels)
    if not open_vocabulary:
        return row
    novel_logits, novel_labels = logits_of(tests.novel, 1)
    row["novel"] = 100 * accuracy(novel_logits, novel_labels)
    row["H"] = harmonic_mean(row["base"], row["novel"])
    in_domain = ((base_logits, base_labels), (novel_logits, novel_labels))
    row["ECE"] = 100 * mean(expected_calibration_error(z.softmax(-1), labels) for z, labels in in_domain)
    return row


@torch.no_grad()
def all_logits(classify: Callable[[Tensor], Tensor], inputs: Tensor | ImageBatches) -> Tensor:
    """(N, C) for N pictures or features, 256 at a time."""
    batches = inputs.split(256) if isinstance(inputs, Tensor) else inputs.in_order(256)
    return torch.cat([classify(batch) for batch in batches])


def summarise(rows: Sequence[dict[str, float]]) -> dict[str, str]:
    """One line of the table from the rows of several seeds: how many, and "mean ± sd" (sample standard deviation).

    A column that was not measured (NaN: shifts that a world has not, novel names of a linear head) has a dash.
    """
    if not rows:
        raise ValueError("There are no rows to summarise: give one for each seed.")
    line = {"seeds": str(len(rows))}
    for column in rows[0]:
        values = [row[column] for row in rows]
        if any(math.isnan(value) for value in values):
            line[column] = "–"
        elif len(values) == 1:
            line[column] = f"{values[0]:.1f}"
        else:
            line[column] = f"{mean(values):.1f} ± {stdev(values):.1f}"
    return line


def learn(
    learner: nn.Module,
    loss: Callable[[nn.Module, Tensor], Tensor],
    labels: Tensor,
    seed: int = 0,
    recipe: Recipe | None = None,
    shots: int = 16,
    on_epoch: Callable[[nn.Module], Mapping[str, float]] | None = None,
    progress: bool = True,
) -> History:
    """One run of the comparison: train ``learner`` on ``shots`` pictures a class, drawn by ``seed``.

    Args:
        learner: a ``PromptLearner`` or any ``Learner``; it is changed.
        loss: ``loss(learner, batch)`` with ``batch`` (B,) indices of all N training pictures.
        labels: (N,) used here to draw the same number from each class, as the paper does.
        recipe: by default the learner's own, the published one.
    """
    rows = few_shot(labels, shots, seed)
    recipe = replace(recipe or learner.recipe, seed=seed)
    return fit(learner, lambda trained, batch: loss(trained, rows[batch]), len(rows), recipe, on_epoch, progress)


def claim(what: str, before: Sequence[float] | float, after: Sequence[float]) -> str:
    """The sentence that these runs support: the difference of ``paired_interval``, or that none was seen."""
    after = list(after)
    difference, low, high = paired_interval(before, after)
    verdict = "higher" if low > 0 else "lower" if high < 0 else "no difference seen"
    return f"{what}: {difference:+.1f} [{low:+.1f}, {high:+.1f}] over {len(after)} seeds: {verdict}."


def paper_tables() -> dict:
    """The published numbers for real CLIP, which this suite did not run (``data/paper_tables.json``)."""
    return json.loads((data_root() / "paper_tables.json").read_text(encoding="utf-8"))
