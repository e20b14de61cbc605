"""Measure the emoji world on its models alone, before any prompt is learned on it.

    python data/measure_emoji.py                            all models; writes the tables of data/README.md
    python data/measure_emoji.py --weights FOLDER MODEL ... some models of another folder; prints the tables

Each picture is classified among the names of its own half (base or novel) of its group, zero-shot.  Accuracy is the mean
of the two halves, H their harmonic mean, and both are averaged over groups.  Intervals are 95 % bootstrap intervals over
classes, because views of one drawing are not independent.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import kdpl_utils as kd
from kdpl_utils.support.disk import atomic_write
from kdpl_utils.worlds import drawings
from kdpl_utils.worlds.emoji import (
    ARTISTS,
    EMOJI_STUDENTS,
    EMOJI_TEACHERS,
    GROUPS,
    HAND_WRITTEN_TEMPLATES,
    KINDS,
    PRETRAINING_STYLES,
    EmojiSplit,
    classes_of,
    roles_of,
)
from kdpl_utils.worlds.world import World
from provenance import MANY, MOST_CORRELATION, MOST_CORRELATION_OF_FEW, MOST_NEAREST, Likeness, likeness

README = Path(__file__).with_name("README.md")
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
STUDENTS = tuple(name for name, _ in EMOJI_STUDENTS)
TEACHERS = tuple(name for name, _ in EMOJI_TEACHERS)
INK = tuple(ink for ink, _ in ARTISTS.values())
PARTS = ("training pictures", "val", "ink test", "unseen colour", "pixels", "emoji-colour test")
BATCH, BATCHES = 32, 40  # of class-agnostic learning, for the recall of the names that a teacher picks
SHOTS = 16  # of a class, for the linear probe
MEGABYTES, MEGABYTES_OF_ONE = 40, 15


@dataclass(frozen=True)
class Measured:
    """The predictions of one model for one kind of pictures of one group.

    Attributes:
        hit, confidence, entropy: of each picture (N,), the entropy in nats.
        ece: over the pictures.
        labels: (N,) class among all of the group's; the first ``n_base`` are base classes.
        styles: of each picture.
    """

    hit: np.ndarray
    confidence: np.ndarray
    entropy: np.ndarray
    ece: float
    labels: np.ndarray
    n_base: int
    styles: tuple[str, ...] = ()

    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the accuracy of each base and of each novel class."""
        by_class = np.bincount(self.labels, self.hit) / np.bincount(self.labels)
        return by_class[: self.n_base], by_class[self.n_base :]


@dataclass
class Report:
    """All that is measured of one model.

    Attributes:
        scale: exp(logit_scale).
        found: by group and kind of pictures, with the first template.
        on_val, on_test: by template and group.
        recalls: by group, of a teacher.
        probes: by group, accuracy of a linear probe on base classes of the ink test.
    """

    scale: float
    found: dict[tuple[str, str], Measured] = field(default_factory=dict)
    on_val: dict[tuple[str, str], Measured] = field(default_factory=dict)
    on_test: dict[tuple[str, str], Measured] = field(default_factory=dict)
    recalls: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)


# --- measuring one model -------------------------------------------------------------------------------------------


def parts_of(group: str) -> dict[str, EmojiSplit]:
    """Return the kinds of pictures of a group, by their names in the tables."""
    ink, colour = kd.load_world(f"emoji/{group}"), kd.load_world(f"emoji-colour/{group}")
    splits = (ink.train, ink.val, ink.test, ink.shifts["colour"], ink.shifts["pixel"], colour.test)
    return dict(zip(PARTS, splits))


def measure(vlm: kd.VLM, features: Tensor, split: EmojiSplit, world: World, template: str) -> Measured:
    """Classify the pictures of each half among the names of that half."""
    labels = split.labels
    hit, confidence, entropy = torch.zeros(3, len(labels))
    pairs = []
    for half in (world.base, world.novel):
        text = kd.encode_names(vlm, [world.classnames[c] for c in half], (template,))
        rows = (labels >= half.start) & (labels < half.stop)
        probs = kd.logits(features[rows], text, vlm.scale).softmax(-1).cpu()
        hit[rows] = (probs.argmax(-1) == labels[rows] - half.start).float()
        confidence[rows], entropy[rows] = probs.amax(-1), kd.entropy(probs)
        pairs.append(kd.expected_calibration_error(probs, labels[rows] - half.start))
    numbers = [x.numpy() for x in (hit, confidence, entropy)]
    return Measured(*numbers, float(np.mean(pairs)), labels.numpy(), len(world.base), split.styles)


def measure_model(vlm: kd.VLM, is_teacher: bool, groups: Sequence[str]) -> Report:
    """Measure one model on every kind of pictures of every group."""
    report = Report(vlm.scale.item())
    for group in tqdm(groups, desc=vlm.name, leave=False):
        world = kd.load_world(f"emoji/{group}")
        parts = parts_of(group)
        features = {part: kd.encode_images(vlm, split.images, progress=False) for part, split in parts.items()}
        for part, split in parts.items():
            report.found[group, part] = measure(vlm, features[part], split, world, HAND_WRITTEN_TEMPLATES[0])
        for template in HAND_WRITTEN_TEMPLATES:
            report.on_val[template, group] = measure(vlm, features["val"], world.val, world, template)
            report.on_test[template, group] = measure(vlm, features["ink test"], world.test, world, template)
        report.probes.append(linear_probe(features["training pictures"], features["ink test"], world))
        if is_teacher:
            report.recalls.append(recall(vlm, features["training pictures"], world))
    return report


def recall(teacher: kd.VLM, train_features: Tensor, world: World, seed: int = 0) -> float:
    """Return the share of the true names of a batch among the K names that a teacher picks from the dictionary.

    K is the number of base classes.
    """
    rows = (world.train.labels < world.base.stop).nonzero().flatten()
    row_of_name = torch.tensor([world.dictionary.index(world.classnames[c]) for c in world.base])
    text = kd.encode_names(teacher, world.dictionary, world.templates)
    generator, shares = torch.Generator().manual_seed(seed), []
    for _ in range(BATCHES):
        batch = rows[torch.randperm(len(rows), generator=generator)[:BATCH]]
        picked = kd.select_classes(kd.logits(train_features[batch], text, teacher.scale), k=len(world.base))
        shares.append(kd.selection_recall(picked, row_of_name[world.train.labels[batch]]))
    return float(np.mean(shares))


def linear_probe(train_features: Tensor, test_features: Tensor, world: World, seed: int = 0) -> float:
    """Return the accuracy on base classes of a linear classifier of unit features, fitted to 16 shots a class."""
    rows = torch.as_tensor(kd.few_shot(world.train.labels, SHOTS, seed=seed))
    rows = rows[world.train.labels[rows] < world.base.stop]
    x, y = train_features[rows].float().cpu(), world.train.labels[rows]
    probe = nn.Linear(x.shape[1], len(world.base))
    nn.init.zeros_(probe.weight)
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(probe(x), y) + 1e-5 * probe.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    is_base = world.test.labels < world.base.stop
    with torch.no_grad():
        return kd.accuracy(probe(test_features[is_base].float().cpu()), world.test.labels[is_base])


# --- numbers over classes and groups -------------------------------------------------------------------------------


def accuracy(base: np.ndarray, novel: np.ndarray) -> np.ndarray:
    """Mean of the two halves."""
    return (base + novel) / 2


def harmonic(base: np.ndarray, novel: np.ndarray) -> np.ndarray:
    """Harmonic mean of the two halves, 0 where both are 0."""
    return 2 * base * novel / np.maximum(base + novel, 1e-12)


def over_groups(rows: Sequence[Measured], of_halves: Callable = accuracy) -> float:
    """Return the mean over groups of a number made of the accuracies of the two halves, in per cent."""
    return 100 * float(np.mean([of_halves(*(half.mean() for half in row.halves())) for row in rows]))


def interval(
    rows: Sequence[Measured],
    minus: Sequence[Measured] | None = None,
    of_halves: Callable = accuracy,
    n: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a bootstrap interval of ``over_groups``, classes resampled within each half of each group.

    Args:
        minus: measured on the same classes, whose number is subtracted from that of the same resampled classes.
    """
    rng, draws = np.random.default_rng(seed), np.zeros(n)
    for i, row in enumerate(rows):
        picks = [rng.integers(len(half), size=(n, len(half))) for half in row.halves()]
        sign = 1
        for measured in (row, minus[i]) if minus else (row,):
            draws += sign * of_halves(*(half[pick].mean(axis=1) for half, pick in zip(measured.halves(), picks)))
            sign = -1
    return tuple(np.percentile(100 * draws / len(rows), [2.5, 97.5]))


def mean(rows: Sequence[Measured], what: str) -> float:
    """Return the mean over groups of an attribute."""
    return float(np.mean([np.mean(getattr(row, what)) for row in rows]))


def by_style(rows: Sequence[Measured], style: str) -> float:
    """Return the accuracy on the pictures of one style, mean over groups, in per cent."""
    shares = [row.hit[[drawn_in == style for drawn_in in row.styles]] for row in rows]
    return 100 * float(np.mean([share.mean() for share in shares if len(share)]))


# --- provenance ----------------------------------------------------------------------------------------------------


def compare_styles(ink: str, other: str) -> Likeness:
    """Compare the drawings of an ink style with those of a pretraining style, of all classes that both have drawn."""
    sheets, concepts = drawings.metadata()["styles"], drawings.metadata()["concepts"]
    common = sorted(set(sheets[ink]["drawn"]) & set(sheets[other]["drawn"]))
    rows = torch.tensor([c for c in common if concepts[c]["group"] in GROUPS])
    return likeness(drawings.sprites(ink)[rows].float() / 255, drawings.sprites(other)[rows].float() / 255)


def shared_artists() -> int:
    """Count the classes for which an artist is both learned from and tested on."""
    roles = [roles_of(concept, kind) for kind in KINDS for group in GROUPS for concept in classes_of(group)]
    return sum(bool(set(r.train) & {*r.val, *r.test}) for r in roles)


# --- tables --------------------------------------------------------------------------------------------------------


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def best_template(report: Report, groups: Sequence[str]) -> str:
    """Return the template with the highest H on val, mean over groups."""
    return max(
        HAND_WRITTEN_TEMPLATES, key=lambda t: over_groups([report.on_val[t, group] for group in groups], harmonic)
    )


def conditions(reports: dict[str, Report], groups: Sequence[str], alike: dict, sizes: dict[str, float]) -> list[str]:
    """Return the table of what the world must meet before a method runs on it, and what was measured."""
    rows = []

    def judge(number: int, what: str, required: str, measured: str, is_met: bool) -> None:
        rows.append([str(number), what, required, measured, "yes" if is_met else "**no**"])

    def of(model: str, part: str) -> list[Measured]:
        return [reports[model].found[group, part] for group in groups]

    students = [name for name in STUDENTS if name in reports]
    teachers = [name for name in TEACHERS if name in reports]
    many = [found for found in alike.values() if found.concepts >= MANY]
    few = [found.correlation for found in alike.values() if found.concepts < MANY]
    judge(1, "ink and pretraining styles: nearest drawing shows the same concept",
          f"at most {MOST_NEAREST:.0%}", f"{max(f.nearest for f in many):.0%}",
          max(f.nearest for f in many) <= MOST_NEAREST)  # fmt: skip
    judge(1, "their median correlation", f"at most {MOST_CORRELATION}",
          f"{max(f.correlation for f in many):.2f}", max(f.correlation for f in many) <= MOST_CORRELATION)  # fmt: skip
    if few:
        judge(1, f"the same, fewer than {MANY} concepts in common", f"at most {MOST_CORRELATION_OF_FEW}",
              f"{max(few):.2f}", max(few) <= MOST_CORRELATION_OF_FEW)  # fmt: skip
    judge(1, "classes learned from and tested on one artist", "0", str(shared_artists()), shared_artists() == 0)
    for name in students:
        best = best_template(reports[name], groups)
        val = {t: [reports[name].on_val[t, group] for group in groups] for t in (best, HAND_WRITTEN_TEMPLATES[0])}
        gain = over_groups(val[best], harmonic) - over_groups(val[HAND_WRITTEN_TEMPLATES[0]], harmonic)
        low, high = interval(val[best], val[HAND_WRITTEN_TEMPLATES[0]], harmonic)
        judge(2, f"{name}: H on val, `{best}` above `{HAND_WRITTEN_TEMPLATES[0]}`", "at least 5 points",
              f"{gain:+.1f} ({low:+.1f} to {high:+.1f})", gain >= 5)  # fmt: skip
    for name in students:
        ink, colour = over_groups(of(name, "ink test")), over_groups(of(name, "unseen colour"))
        judge(3, f"{name} on the ink test", "25 to 50 %", f"{ink:.1f}", 25 <= ink <= 50)
        judge(3, f"{name} on unseen colour", "at least 55 %", f"{colour:.1f}", colour >= 55)
        if TEACHERS[-1] in reports:
            above = over_groups(of(TEACHERS[-1], "ink test")) - ink
            low, high = interval(of(TEACHERS[-1], "ink test"), of(name, "ink test"))
            judge(3, f"{TEACHERS[-1]} above {name} on the ink test", "at least 20 points",
                  f"{above:+.1f} ({low:+.1f} to {high:+.1f})", above >= 20)  # fmt: skip
    if TEACHERS[-1] in reports:
        large = of(TEACHERS[-1], "ink test")
        by_group = {group: over_groups([row]) for group, row in zip(groups, large)}
        worst = min(by_group, key=by_group.get)
        judge(3, f"{TEACHERS[-1]} on the ink test", "at least 60 %", f"{over_groups(large):.1f}",
              over_groups(large) >= 60)  # fmt: skip
        judge(3, "the same, worst group", "at least 45 %", f"{by_group[worst]:.1f} ({worst})", by_group[worst] >= 45)
    by_size = [over_groups(of(name, "ink test")) for name in teachers]
    judge(3, "teachers in order of size", "rising", ", ".join(f"{x:.1f}" for x in by_size), by_size == sorted(by_size))
    for name in teachers:
        difference = over_groups(of(name, "training pictures")) - over_groups(of(name, "ink test"))
        low, high = interval(of(name, "training pictures"), of(name, "ink test"))
        judge(4, f"{name}: training pictures − test pictures", "within 4 points",
              f"{difference:+.1f} ({low:+.1f} to {high:+.1f})", abs(difference) <= 4)  # fmt: skip
    for name in teachers:
        over = 100 * (mean(of(name, "ink test"), "confidence") - mean(of(name, "ink test"), "hit"))
        judge(5, f"{name}: confidence − accuracy on the ink test", "within 8 points", f"{over:+.1f}", abs(over) <= 8)
    for name in teachers:
        picked = 100 * float(np.mean(reports[name].recalls))
        judge(6, f"{name}: true names among the K picked", "at least 60 %", f"{picked:.1f}", picked >= 60)
    judge(7, "weights in half precision", f"at most {MEGABYTES} MB, each {MEGABYTES_OF_ONE}",
          f"{sum(sizes.values()):.1f}, largest {max(sizes.values()):.1f}",
          sum(sizes.values()) <= MEGABYTES and max(sizes.values()) <= MEGABYTES_OF_ONE)  # fmt: skip
    return ["### Conditions", "", *markdown(["", "condition", "required", "measured", "met"], rows)]


def accuracy_tables(reports: dict[str, Report], groups: Sequence[str]) -> list[str]:
    """Return a table for each kind of pictures."""
    lines = []
    for part in PARTS:
        pictures = sum(len(next(iter(reports.values())).found[group, part].hit) for group in groups)
        lines += [f"### {part.capitalize()}: {pictures:,} pictures, mean of {len(groups)} groups", ""]
        rows = []
        for model, report in reports.items():
            found = [report.found[group, part] for group in groups]
            low, high = interval(found)
            halves = [100 * np.mean([row.halves()[i].mean() for row in found]) for i in (0, 1)]
            rows.append([
                model, f"{over_groups(found):.1f}", f"{low:.1f} to {high:.1f}", *(f"{half:.1f}" for half in halves),
                f"{over_groups(found, harmonic):.1f}", f"{100 * mean(found, 'confidence'):.1f}",
                f"{100 * mean(found, 'ece'):.1f}", f"{mean(found, 'entropy'):.2f}",
                *(f"{over_groups([row]):.0f}" for row in found),
            ])  # fmt: skip
        header = ["model", "accuracy %", "95 % interval", "base", "novel", "H", "confidence %", "ECE %", "entropy"]
        lines += markdown([*header, *groups], rows)
    return lines


def templates_table(reports: dict[str, Report], groups: Sequence[str]) -> list[str]:
    """Return H on val of each hand-written template."""
    rows = [
        [f"`{t}`", *(f"{over_groups([r.on_val[t, g] for g in groups], harmonic):.1f}" for r in reports.values())]
        for t in HAND_WRITTEN_TEMPLATES
    ]
    return ["### Ten hand-written templates, H on val", "", *markdown(["template", *reports], rows)]


def style_table(reports: dict[str, Report], groups: Sequence[str]) -> list[str]:
    """Return the accuracy on the ink test by style, with the first template and with the best one on val."""
    best = {name: best_template(report, groups) for name, report in reports.items()}
    columns = [(name, t) for name in reports for t in dict.fromkeys((HAND_WRITTEN_TEMPLATES[0], best[name]))]
    header = ["style", *(f"{name}, `{template}`" for name, template in columns)]
    rows = [
        [style, *(f"{by_style([reports[n].on_test[t, g] for g in groups], style):.1f}" for n, t in columns)]
        for style in INK
    ]
    return ["### Ink test by style, accuracy %", "", *markdown(header, rows)]


def model_table(reports: dict[str, Report], groups: Sequence[str], sizes: dict[str, float]) -> list[str]:
    """Return scale, size and linear probe of each model."""
    rows = []
    for name, report in reports.items():
        zero_shot = 100 * np.mean([report.found[group, "ink test"].halves()[0].mean() for group in groups])
        rows.append([name, f"{sizes[name]:.1f}", f"{report.scale:.1f}", f"{zero_shot:.1f}",
                     f"{100 * np.mean(report.probes):.1f}"])  # fmt: skip
    header = ["model", "MB", "logit scale", "zero-shot, base classes %", f"linear probe, {SHOTS} shots, base classes %"]
    return ["### Models, on the ink test", "", *markdown(header, rows)]


def provenance_table(alike: dict[tuple[str, str], Likeness]) -> list[str]:
    """Return correlation and nearest share of each ink style with each pretraining style."""
    rows = [
        [ink, *(f"{alike[ink, s].correlation:.2f}, {alike[ink, s].nearest:.0%}" for s in PRETRAINING_STYLES)]
        for ink in INK
    ]
    title = "### Ink and pretraining styles: median correlation, nearest drawing shows the same concept"
    return [title, "", *markdown(["ink", *PRETRAINING_STYLES], rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", help="default: all of the folder")
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "emoji" / "models")
    parser.add_argument("--groups", nargs="*", default=GROUPS, choices=GROUPS)
    arguments = parser.parse_args()
    groups, folder = arguments.groups, arguments.weights
    names = arguments.models or [n for n in (*STUDENTS, *TEACHERS) if (folder / f"{n}.safetensors").exists()]
    sizes = {name: (folder / f"{name}.safetensors").stat().st_size / 1e6 for name in names}
    alike = {(ink, style): compare_styles(ink, style) for ink in INK for style in PRETRAINING_STYLES}
    reports = {}
    for name in names:
        vlm = kd.load_vlm(name, str(folder / f"{name}.safetensors"))
        reports[name] = measure_model(vlm, name in TEACHERS, groups)
    lines = [*conditions(reports, groups, alike, sizes), *model_table(reports, groups, sizes),
             *accuracy_tables(reports, groups), *templates_table(reports, groups), *style_table(reports, groups),
             *provenance_table(alike)]  # fmt: skip
    text = "\n".join(lines)
    print(text)
    if set(names) == {*STUDENTS, *TEACHERS} and groups == GROUPS:
        before, rest = README.read_text(encoding="utf-8").split(START)
        after = rest.split(END)[1]
        atomic_write(README, lambda part: part.write_text(f"{before}{START}\n{text}{END}{after}", encoding="utf-8"))


if __name__ == "__main__":
    main()
