"""The protocol of the comparisons: which pictures are learned from, and the numbers a method is judged by."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import LongTensor, Tensor, nn

from .clip.batches import ImageBatches
from .evaluate import accuracy, expected_calibration_error, harmonic_mean
from .support.shipped import data_root
from .train import History, Recipe, fit
from .vlm import VLM, encode_images, logits

if TYPE_CHECKING:
    from .worlds.world import Split, World

    Inputs: TypeAlias = Tensor | ImageBatches
    Classify = Callable[[Tensor], Tensor]  # images or their features → logits (N, C)

COLUMNS = ("base", "novel", "H", "base shifted", "novel shifted", "ECE")


def few_shot(labels: Tensor, shots: int, seed: int) -> LongTensor:
    """Indices of ``shots`` pictures a class, class by class, without replacement; all where there are fewer.

    With one seed, few shots are among the many, and a class's pictures are the same whether or not the classes after
    it are there (so base-to-novel and all-class runs share them).
    """
    labels = torch.as_tensor(labels)
    if not len(labels) or labels.min() < 0:
        raise ValueError("Shots are drawn class by class, and these pictures have no labels: use random_subset.")
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten().cpu()
        # The whole class is shuffled and its first pictures are taken, so few shots are among the many.
        order = torch.randperm(len(members), generator=generator)
        chosen.append(members[order[:shots]])
    return torch.cat(chosen)


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


@dataclass(frozen=True)
class TestSets:
    """The test pictures of a world as inputs of a learner, with the labels beside them.

    Attributes:
        base, novel: (inputs, labels (N,) from 0) of that half's in-domain test pictures; inputs are unit image
            features (N, D), or ``ImageBatches`` for learners that change the image tower.
        shifts: for each shift the same two pairs.
    """

    base: tuple[Inputs, Tensor]
    novel: tuple[Inputs, Tensor]
    shifts: dict[str, tuple[tuple[Inputs, Tensor], tuple[Inputs, Tensor]]]


def test_features(vlm: VLM, world: World) -> TestSets:
    """Encode every test picture of a world, once."""
    return test_sets(world, vlm.device, lambda split: encode_images(vlm, split.images))


def test_images(vlm: VLM, world: World, keep: bool = False) -> TestSets:
    """Every test picture of a world as ``ImageBatches``; ``keep`` them preprocessed where many learners see them."""
    return test_sets(world, vlm.device, lambda split: ImageBatches(vlm, split.images, keep))


def test_sets(world: World, device: torch.device, inputs: Callable[[Split], Inputs]) -> TestSets:
    """The halves of every test split, each as ``inputs`` gives it."""

    def halves(split: Split):
        parts = [split.of_classes(half) for half in (world.base, world.novel)]
        return tuple((inputs(part), part.labels.to(device)) for part in parts)

    base, novel = halves(world.test)
    return TestSets(base, novel, {name: halves(split) for name, split in world.shifts.items()})


def scores(tests: TestSets, world: World, encode: Callable[[Sequence[str]], Tensor], scale: Tensor) -> dict[str, float]:
    """``classifier_scores`` of text features behind cached image features.

    Args:
        encode: names → (C, D) unit text features; ``PromptLearner``, or ``encode_names`` with its model.
    """

    def classifier(names: Sequence[str]) -> Classify:
        text = encode(names)
        return lambda features: logits(features, text, scale)

    return classifier_scores(tests, world, classifier)


@torch.no_grad()
def classifier_scores(
    tests: TestSets, world: World, classifier: Callable[[Sequence[str]], Classify], open_vocabulary: bool = True
) -> dict[str, float]:
    """One row of the results table, per cent.

    Base-to-novel (CoCoOp): top-1 on a half's pictures, among the names of that half only; H is the harmonic mean.
    Shifted: the same, mean over the shifts. ECE: 15 bins, mean of the halves.

    Args:
        classifier: names → (images → logits), as ``Learner.classifier``; each half's names are encoded once.
        open_vocabulary: whether it can classify novel classes; if not, what depends on them is NaN.
    """
    row = dict.fromkeys(COLUMNS, float("nan"))
    errors = []
    for half, classes in (("base", world.base), ("novel", world.novel))[: 1 + open_vocabulary]:
        classify = classifier([world.classnames[c] for c in classes])
        inputs, labels = getattr(tests, half)
        found = all_logits(classify, inputs)
        row[half] = 100 * accuracy(found, labels)
        errors.append(100 * expected_calibration_error(found.softmax(-1), labels))
        shifted = [pairs[half == "novel"] for pairs in tests.shifts.values()]
        if shifted:
            row[f"{half} shifted"] = mean(100 * accuracy(all_logits(classify, x), y) for x, y in shifted)
    if open_vocabulary:
        row["H"] = harmonic_mean(row["base"], row["novel"])
        row["ECE"] = mean(errors)
    return row


@torch.no_grad()
def all_logits(classify: Classify, inputs: Inputs) -> Tensor:
    """(N, C) for N pictures or features, 256 at a time."""
    batches = inputs.split(256) if isinstance(inputs, Tensor) else inputs.in_order(256)
    return torch.cat([classify(batch) for batch in batches])


def summarise(rows: Sequence[dict[str, float]]) -> dict[str, str]:
    """One line of a table from the rows of several seeds: "mean ± sd" (sample standard deviation).

    A column that was not measured (NaN) has a dash.
    """
    line = {"seeds": str(len(rows))}
    for column in rows[0]:
        values = [row[column] for row in rows]
        if any(math.isnan(value) for value in values):
            line[column] = "–"
        else:
            line[column] = f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
    return line


def paper_tables() -> dict:
    """The published numbers for real CLIP, which this suite did not run (``data/paper_tables.json``)."""
    return json.loads((data_root() / "paper_tables.json").read_text(encoding="utf-8"))
