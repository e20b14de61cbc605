"""The protocol of the comparisons: what is cached once, and the numbers every method is judged by."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .evaluate import accuracy, check_scores, expected_calibration_error, harmonic_mean, paired_interval
from .prompts import PromptLearner
from .shots import few_shot, pictures_of
from .supervision import Supervision
from .support.checkpoint import Kept
from .support.memory import Halving
from .support.prefetch import ahead
from .support.shipped import data_root
from .train import History, Recipe, checked_recipe, fit
from .vlm import VLM, Pixels, check_vlm, encode_images, logits

if TYPE_CHECKING:
    from .learners import Learner
    from .worlds.world import Split, World

COLUMNS = ("base", "novel", "H", "base shifted", "novel shifted", "ECE")


@dataclass(frozen=True)
class EvaluationInputs:
    """The test pictures of a world as inputs of a learner, with the labels beside them.

    Attributes:
        base, novel: (inputs, labels (N,) from 0) of the in-domain test pictures of that half; inputs are unit image
            features (N, D), or ``Pixels`` for learners that change the image tower.
        shifts: for each shift the same two pairs.
    """

    base: tuple[Tensor | Pixels, Tensor]
    novel: tuple[Tensor | Pixels, Tensor]
    shifts: dict[str, tuple[tuple[Tensor | Pixels, Tensor], tuple[Tensor | Pixels, Tensor]]]


def test_features(vlm: VLM, world: World) -> EvaluationInputs:
    """Encode every test picture of a world, once."""
    check_vlm(vlm)
    return evaluation_inputs(world, vlm.device, lambda split: encode_images(vlm, split.images))


def test_pixels(vlm: VLM, world: World, keep: bool = False) -> EvaluationInputs:
    """Every test picture of a world as ``Pixels``; ``keep`` them preprocessed where many learners look at them."""
    check_vlm(vlm)
    return evaluation_inputs(world, vlm.device, lambda split: Pixels(vlm, split.images, keep))


def evaluation_inputs(
    world: World, device: torch.device, inputs: Callable[[Split], Tensor | Pixels]
) -> EvaluationInputs:
    """The halves of every test split, each as ``inputs`` gives it."""

    def halves(split: Split):
        parts = (split.of_classes(half) for half in (world.base, world.novel))
        return tuple((inputs(part), part.labels.to(device)) for part in parts)

    base, novel = halves(world.test)
    return EvaluationInputs(base, novel, {name: halves(split) for name, split in world.shifts.items()})


def scores(
    tests: EvaluationInputs, world: World, encode: Callable[[Sequence[str]], Tensor], scale: Tensor | float
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
    tests: EvaluationInputs,
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

    def logits_of(pair: tuple[Tensor | Pixels, Tensor], half: int) -> tuple[Tensor, Tensor]:
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
def all_logits(classify: Callable[[Tensor], Tensor], inputs: Tensor | Pixels) -> Tensor:
    """(N, C) for N pictures or features, a batch at a time, the next one opened meanwhile."""
    batches = ahead(lambda i: inputs[i : i + 256], range(0, len(inputs), 256))
    return check_scores(torch.cat([*map(Halving(classify, "naming pictures"), batches)]), "The logits")


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
    student: VLM,
    loss: Callable[[PromptLearner, Tensor], Tensor],
    labels: Tensor,
    seed: int,
    recipe: Recipe,
    shots: int = 16,
    on_epoch: Callable[[PromptLearner], dict[str, float]] | None = None,
    checkpoint: Kept | None = None,
) -> tuple[PromptLearner, History]:
    """One run of the comparison: a fresh "a photo of a", ``shots`` pictures a class drawn by ``seed``, one loss.

    Args:
        loss: ``loss(prompt, batch)`` with ``batch`` (B,) indices of training pictures.
        labels: (N,) of the training pictures, used here to draw the same number from each class, as the paper does.
        on_epoch: what to measure after each epoch, kept in ``history.metrics``; for ``checkpoint`` see ``fit``.
    """
    prompt = PromptLearner(student)
    shot_rows = few_shot(labels, shots, seed)
    watch = None if on_epoch is None else lambda epoch: on_epoch(prompt)
    history = fit(
        prompt,
        lambda rows: loss(prompt, rows),
        len(shot_rows),
        replace(checked_recipe(recipe), seed=seed),
        watch,
        progress=False,
        fetch=lambda batch: shot_rows[batch],
        checkpoint=checkpoint,
    )
    return prompt, history


def adapt(
    learner: Learner,
    images: Tensor | Pixels,
    supervision: Supervision,
    labels: Tensor,
    seed: int,
    recipe: Recipe | None = None,
    shots: int = 16,
    checkpoint: Kept | None = None,
) -> History:
    """One run of any learner under any supervision: ``shots`` pictures a class drawn by ``seed``.

    Args:
        images: training pictures, as ``Pixels`` or, for CoOp and CoCoOp, as unit features (N, D).
        labels: (N,) used here to draw the same number from each class, as the paper does.
        recipe, checkpoint: by default the learner's own, the published one, and none; see ``fit``.
    """
    shot_rows, images = few_shot(labels, shots, seed), pictures_of(learner.vlm, images, len(labels), supervision)
    recipe = replace(checked_recipe(recipe or learner.recipe), seed=seed)
    return train_learner(learner, images, supervision, len(shot_rows), recipe, shot_rows.__getitem__, False, checkpoint)


def train_learner(
    learner: Learner,
    images: Tensor | Pixels,
    supervision: Supervision,
    n_images: int,
    recipe: Recipe,
    rows_of: Callable[[Tensor], Tensor] = lambda batch: batch,
    progress: bool = False,
    checkpoint: Kept | None = None,
) -> History:
    """Train any learner under any supervision: every run of the suite ends here.

    Args:
        images: ``Pixels``, or unit features (rows, D) for learners that leave the image tower alone.
        n_images: how many training pictures make an epoch.
        rows_of: batch indices (B,) of these pictures → rows (B,) of ``images`` and of the supervision; by default
            the same. A picture may have several rows, one for each of its crops.
        checkpoint: a file from which a killed training goes on, see ``fit``.
    """

    def fetch(rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows, images[rows]

    def loss(fetched: tuple[Tensor, Tensor]) -> Tensor:
        rows, pictures = fetched
        return learner.loss(pictures, *supervision(rows))

    return fit(learner, loss, n_images, recipe, progress=progress, fetch=fetch, rows_of=rows_of, checkpoint=checkpoint)


def claim(what: str, before: Sequence[float] | float, after: Sequence[float]) -> str:
    """The sentence that these runs support: the difference of ``paired_interval``, or that none was seen."""
    after = list(after)
    difference, low, high = paired_interval(before, after)
    verdict = "higher" if low > 0 else "lower" if high < 0 else "no difference seen"
    return f"{what}: {difference:+.1f} [{low:+.1f}, {high:+.1f}] over {len(after)} seeds: {verdict}."


def paper_tables() -> dict:
    """The published numbers for real CLIP, which this suite did not run (``data/paper_tables.json``)."""
    return json.loads((data_root() / "paper_tables.json").read_text(encoding="utf-8"))
