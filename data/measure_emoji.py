"""Measure the emoji world on its models alone, before any prompt is learned on it.

    python data/measure_emoji.py            all models and groups; writes the tables of data/README.md
    python data/measure_emoji.py --quick    two groups, only printed

Zero-shot with "a photo of a {}.", every picture of a base class among the base names of its own group.  Intervals are
95 % bootstrap intervals over concepts: views of one drawing are not independent.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import kdpl_utils as kd
from kdpl_utils.support.disk import atomic_write
from kdpl_utils.worlds.emoji import EMOJI_STUDENTS, EMOJI_TEACHERS, GROUPS, HAND_WRITTEN_TEMPLATES
from kdpl_utils.worlds.world import Split, World

README = Path(__file__).with_name("README.md")
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
STUDENTS = tuple(name for name, _ in EMOJI_STUDENTS)
TEACHERS = tuple(name for name, _ in EMOJI_TEACHERS)
BATCH, BATCHES = 32, 40  # of class-agnostic learning, for the recall of the names that a teacher picks
# What is measured: its name in the tables, and where in the two worlds of a group its pictures are.
PICTURES = {
    "unseen colour": lambda ink, colour: list(ink.shifts.values()),
    "ink test": lambda ink, colour: [ink.test],
    "val": lambda ink, colour: [ink.val],
    "adaptation": lambda ink, colour: [quarter(ink.train)],
    "colour test": lambda ink, colour: [colour.test],
}


@dataclass(frozen=True)
class Measured:
    """What one model says of one kind of pictures of one group.

    Attributes:
        hit, confidence, labels: of each picture (N,).
        ece, entropy: over the pictures, the entropy in nats.
    """

    hit: np.ndarray
    confidence: np.ndarray
    labels: np.ndarray
    ece: float
    entropy: float


def quarter(split: Split) -> Split:
    """Every fourth view of a training split, of every hand and class."""
    n_classes = int(split.labels.max()) + 1
    return split.subset([i for i in range(len(split)) if (i // n_classes) % 4 == 0])


def measure(vlm: kd.VLM, text: torch.Tensor, splits: Sequence[Split]) -> Measured:
    probabilities = [kd.logits(kd.encode_images(vlm, split.images), text, vlm.scale).softmax(-1) for split in splits]
    probs, labels = torch.cat(probabilities).cpu(), torch.cat([split.labels for split in splits])
    return Measured(
        (probs.argmax(dim=1) == labels).numpy(),
        probs.amax(dim=1).numpy(),
        labels.numpy(),
        kd.expected_calibration_error(probs, labels),
        kd.entropy(probs).mean().item(),
    )


def measure_model(name: str, groups: Sequence[str]) -> dict[tuple[str, str], Measured]:
    """By group and kind of pictures."""
    vlm, found = kd.load_vlm(name), {}
    for group in tqdm(groups, desc=name, leave=False):
        ink, colour = kd.load_world(f"emoji/{group}"), kd.load_world(f"emoji-colour/{group}")
        text = kd.encode_names(vlm, [ink.classnames[c] for c in ink.base], ink.templates)
        for kind, splits_of in PICTURES.items():
            splits = [split.of_classes(ink.base) for split in splits_of(ink, colour)]
            found[group, kind] = measure(vlm, text, splits)
    return found


def interval(rows: Sequence[Measured], seed: int = 0, n: int = 1000) -> tuple[float, float]:
    """Bootstrap interval of the mean over groups of top-1, concepts resampled within each group."""
    rng, draws = np.random.default_rng(seed), np.zeros(n)
    for row in rows:
        hits = np.bincount(row.labels, row.hit) / np.bincount(row.labels)
        draws += hits[rng.integers(len(hits), size=(n, len(hits)))].mean(axis=1) / len(rows)
    return tuple(np.percentile(100 * draws, [2.5, 97.5]))


def recall(teacher: kd.VLM, world: World, seed: int = 0) -> float:
    """Of the true names of a batch of training pictures, the share among the K names that a teacher picks.

    K is the number of base classes, the names picked from are the whole dictionary's.
    """
    train = quarter(world.train).of_classes(world.base)
    names = [world.classnames[c] for c in world.base]
    row_of_name = torch.tensor([world.dictionary.index(name) for name in names])
    text = kd.encode_names(teacher, world.dictionary, world.templates)
    dictionary_logits = kd.logits(kd.encode_images(teacher, train.images), text, teacher.scale)
    generator, shares = torch.Generator().manual_seed(seed), []
    for _ in range(BATCHES):
        batch = torch.randperm(len(train), generator=generator)[:BATCH]
        picked = kd.select_classes(dictionary_logits[batch], k=len(names))
        shares.append(kd.selection_recall(picked, row_of_name[train.labels[batch]]))
    return float(np.mean(shares))


def template_accuracy(vlm: kd.VLM, worlds: Sequence[World]) -> np.ndarray:
    """(10,) top-1 on val of each hand-written template, mean of the groups."""
    rows = []
    for world in worlds:
        val = world.val.of_classes(world.base)
        features = kd.encode_images(vlm, val.images)
        names = [world.classnames[c] for c in world.base]
        text = [kd.encode_names(vlm, names, (template,)) for template in HAND_WRITTEN_TEMPLATES]
        rows.append([kd.accuracy(kd.logits(features, t, vlm.scale), val.labels.to(features.device)) for t in text])
    return 100 * np.mean(rows, axis=0)


def mean(rows: Sequence[Measured], what: str) -> float:
    return 100 * float(np.mean([np.mean(getattr(row, what)) for row in rows]))


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def accuracy_tables(found: dict[str, dict], groups: Sequence[str], scales: dict[str, float]) -> list[str]:
    lines = []
    for kind in PICTURES:
        pictures = sum(len(next(iter(found.values()))[group, kind].hit) for group in groups)
        lines += [f"### {kind.capitalize()}: {pictures:,} pictures, mean of {len(groups)} groups", ""]
        rows = []
        for model, measured in found.items():
            of_kind = [measured[group, kind] for group in groups]
            low, high = interval(of_kind)
            by_group = [100 * row.hit.mean() for row in of_kind]
            rows.append([
                model, f"{scales[model]:.1f}", f"{mean(of_kind, 'hit'):.1f}", f"{low:.1f} to {high:.1f}",
                f"{mean(of_kind, 'confidence'):.1f}", f"{mean(of_kind, 'ece'):.1f}",
                f"{mean(of_kind, 'entropy') / 100:.2f}", *(f"{value:.0f}" for value in by_group),
            ])  # fmt: skip
        header = ["model", "logit_scale (exp)", "top-1 %", "95 % interval", "confidence %", "ECE %", "entropy (nats)"]
        lines += markdown([*header, *groups], rows)
    return lines


def conditions(found: dict[str, dict], groups: Sequence[str], recalls: dict[str, list[float]]) -> list[str]:
    """What was asked of the world before any prompt was learned, and what was measured."""

    def top1(model: str, kind: str) -> float:
        return mean([found[model][group, kind] for group in groups], "hit")

    rows = []

    def judge(what: str, asked: str, measured: str, is_met: bool) -> None:
        rows.append([what, asked, measured, "yes" if is_met else "**no**"])

    best = TEACHERS[-1]
    for student in (name for name in STUDENTS if name in found):
        colour, ink = top1(student, "unseen colour"), top1(student, "ink test")
        judge(f"{student} knows colour", "at least 65", f"{colour:.1f}", colour >= 65)
        in_bounds = 25 <= ink <= colour * 2 / 3
        judge(f"{student} on ink", f"25 to {colour * 2 / 3:.0f} (two thirds of colour)", f"{ink:.1f}", in_bounds)
        gap = top1(best, "ink test") - ink
        judge(f"{best} above {student} on the ink test", "at least 20", f"{gap:+.1f}", gap >= 20)
        contrast = top1(best, "colour test") - top1(student, "colour test")
        judge(f"{best} above {student} in emoji-colour", "at most 10", f"{contrast:+.1f}", contrast <= 10)
    worst = min(groups, key=lambda group: found[best][group, "adaptation"].hit.mean())
    lowest = 100 * found[best][worst, "adaptation"].hit.mean()
    judge(f"{best} on the adaptation pictures, worst group", "at least 88", f"{lowest:.1f} ({worst})", lowest >= 88)
    by_size = [top1(teacher, "ink test") for teacher in TEACHERS if teacher in found]
    judge("teachers in order of size", "rising", ", ".join(f"{x:.1f}" for x in by_size), by_size == sorted(by_size))
    for teacher in (name for name in TEACHERS if name in found):
        of_kind = [found[teacher][group, "ink test"] for group in groups]
        over = mean(of_kind, "confidence") - mean(of_kind, "hit")
        judge(f"{teacher}: confidence − accuracy, ink test", "within 8", f"{over:+.1f}", abs(over) <= 8)
        picked = 100 * float(np.mean(recalls[teacher]))
        judge(f"{teacher}: true names among the K picked", "at least 60", f"{picked:.1f}", picked >= 60)
    return ["### What was asked of the world, in per cent or points", "",
            *markdown(["condition", "asked", "measured", "met"], rows)]  # fmt: skip


def templates_table(values: dict[str, np.ndarray]) -> list[str]:
    rows = [[f"`{t}`", *(f"{v[i]:.1f}" for v in values.values())] for i, t in enumerate(HAND_WRITTEN_TEMPLATES)]
    return ["### Ten hand-written templates on val, top-1 %", "", *markdown(["template", *values], rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", default=[*STUDENTS, *TEACHERS])
    parser.add_argument("--quick", action="store_true", help="two groups, print only")
    arguments = parser.parse_args()
    groups = GROUPS[:2] if arguments.quick else GROUPS
    worlds = [kd.load_world(f"emoji/{group}") for group in groups]
    found, scales, recalls, templates = {}, {}, {}, {}
    for name in arguments.models:
        vlm = kd.load_vlm(name)
        scales[name] = vlm.scale.item()
        found[name] = measure_model(name, groups)
        templates[name] = template_accuracy(vlm, worlds)
        if name in TEACHERS:
            recalls[name] = [recall(vlm, world) for world in worlds]
    lines = []
    if TEACHERS[-1] in found:
        lines += conditions(found, groups, recalls)
    lines += [*accuracy_tables(found, groups, scales), *templates_table(templates)]
    text = "\n".join(lines)
    print(text)
    if set(arguments.models) == {*STUDENTS, *TEACHERS} and not arguments.quick:
        before, rest = README.read_text(encoding="utf-8").split(START)
        after = rest.split(END)[1]
        atomic_write(README, lambda part: part.write_text(f"{before}{START}\n{text}{END}{after}", encoding="utf-8"))


if __name__ == "__main__":
    main()
