"""Compare learners and kinds of supervision on the emoji world; one command computes the whole table.

    python benchmarks/learners.py                    both students, six groups, five seeds: CoOp under the paper's three
                                                     kinds of supervision and the controls, and a linear head
    python benchmarks/learners.py --learner vpt maple --student emoji-student-vit --world emoji/food-drink
    python benchmarks/learners.py --gap gap.png      both worlds: CoOp's gain against the teacher's lead
    python benchmarks/learners.py --choose           the learning rates of the emoji world, chosen on val

Rates are chosen for labels alone and serve all kinds of supervision; PromptKD's rate is chosen for its own objective.
Finished runs lie in --out and are not repeated, so a stopped command goes on.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from measure import count, machine, table
from torch import Tensor

import kdpl_utils as kd
from kdpl_utils.choices import LEARNERS, MODES, PAPER_MODES
from kdpl_utils.experiments.plan import plan
from kdpl_utils.experiments.run import run
from kdpl_utils.experiments.runner import Evaluation, RunConfig, Runner
from kdpl_utils.experiments.tables import average_rows, average_scores
from kdpl_utils.protocol import all_logits, test_sets
from kdpl_utils.worlds.emoji import EMOJI_STUDENTS, GROUPS, HAND_WRITTEN_TEMPLATES, KINDS

RATES = (0.003, 0.0125, 0.05, 0.2)
PROMPTKD_RATES = (0.00003, 0.0001, 0.0003, 0.001)  # its loss is weighted, here by about 40
FIRST_CHOOSING_SEED = 11  # the table's seeds are 1 to 5
COMPARED = {"coop": tuple(mode for mode in MODES if mode != "promptkd"), "linear": ("labels", "kdpl")}
STUDENTS = tuple(name for name, _ in EMOJI_STUDENTS)

Table = list[tuple[RunConfig, Evaluation]]


def plan_tables(
    worlds: Sequence[str], students: Sequence[str], compared: dict[str, Sequence[str]], seeds: Sequence[int]
) -> dict[tuple[str, str], Table]:
    """Plan the runs of each (world, student): the zero-shot student once, and each learner in each of its modes."""
    tables = {}
    for student in students:
        for world in worlds:
            pairs = []
            for learner, modes in compared.items():
                planned = plan("base-to-novel", world, [learner], modes, seeds, student=(student, None))
                pairs += [pair for pair in planned if pair not in pairs]
            tables[world, student] = pairs
    return tables


def by_method(tables: Sequence[Table], out: Path) -> tuple[dict[str, float], dict[tuple[str, str], dict[int, dict]]]:
    """Return the zero-shot scores and, for each (learner, mode), the scores by seed."""
    scores = {
        (fields["method"], fields["supervision"]): by_seed
        for fields, by_seed in ((dict(method), by_seed) for method, by_seed in average_scores(tables, out).items())
    }
    zero_shot = next(iter(scores.pop(("zero-shot", "")).values()))  # no seed changes it
    return zero_shot, scores


def differences(tables: Sequence[Table], out: Path, seeds: Sequence[int]) -> list[dict[str, object]]:
    """Compare each learner and mode with zero-shot and with labels, with Student's 95 % intervals over seeds."""
    zero_shot, scores = by_method(tables, out)
    rows = []
    for (learner, mode), by_seed in scores.items():
        row: dict[str, object] = {"learner": learner, "supervision": mode}
        references = {"zero-shot": dict.fromkeys(seeds, zero_shot)}
        if mode != "labels" and (learner, "labels") in scores:
            references["labels"] = scores[learner, "labels"]
        for column in ("base", "novel", "H"):
            after = [by_seed[seed][column] for seed in seeds]
            if any(math.isnan(value) for value in after):  # a linear head cannot classify novel classes
                continue
            for name, reference in references.items():
                interval = kd.paired_interval([reference[seed][column] for seed in seeds], after)
                row[f"{column} − {name}"] = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*interval)
        rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return [{column: row.get(column, "–") for column in columns} for row in rows]


@torch.no_grad()
def top1_on_val(runner: Runner, learner: kd.Learner, world: kd.World, classifier: Callable) -> float:
    """Top-1, per cent, on base images of ``val`` among base names."""
    val = world.val.of_classes(world.base)
    z = all_logits(classifier([world.classnames[c] for c in world.base]), runner.inputs(learner, val))
    return 100 * kd.accuracy(z, val.labels.to(z.device))


def hand_written(student: str, worlds: Sequence[str], out: Path) -> list[dict[str, object]]:
    """Score the first hand-written template and the one that is best on val, mean over the worlds.

    A learned context has to be compared with these: they cost a person some minutes and no training.
    """
    runner = Runner(out)
    learner = runner.learner(plan("base-to-novel", worlds[0], [], [], [], student=(student, None))[0][0])
    loaded = [replace(runner.world(world), shifts={}) for world in worlds]

    def classifier(template: str, names: Sequence[str]) -> Callable[[Tensor], Tensor]:
        text = kd.encode_names(learner.vlm, names, [template])
        return lambda features: kd.logits(features, text, learner.vlm.scale)

    def top1(template: str) -> float:
        classify = functools.partial(classifier, template)
        return mean(top1_on_val(runner, learner, world, classify) for world in loaded)

    on_val = {template: top1(template) for template in HAND_WRITTEN_TEMPLATES}
    first = HAND_WRITTEN_TEMPLATES[0]
    best = max(on_val, key=on_val.get)
    rows = []
    for template, chosen in ((first, "no"), (best, f"of {len(on_val)}, on val")):
        scores = []
        for world in loaded:
            tests = test_sets(world, learner.vlm.device, lambda split: runner.inputs(learner, split))
            scores.append(kd.classifier_scores(tests, world, functools.partial(classifier, template)))
        base = mean(row["base"] for row in scores)
        novel = mean(row["novel"] for row in scores)
        numbers = {"on val": on_val[template], "base": base, "novel": novel, "H": kd.harmonic_mean(base, novel)}
        rows.append({"template": template, "chosen": chosen, **{c: f"{x:.1f}" for c, x in numbers.items()}})
    return rows


def gaps(out: Path, tables: dict[tuple[str, str], Table], seeds: Sequence[int]) -> list[dict[str, object]]:
    """For each world and student, compute the teacher's lead and CoOp's gain on base test images, in points."""
    runner = Runner(out)
    rows = []
    for (world, student), pairs in tables.items():
        zero_shot, scores = by_method([pairs], out)
        teacher = plan("base-to-novel", world, [], [], [], student=runner.world(world).teacher)[0]
        gap = runner.score(*teacher)["base"] - zero_shot["base"]
        row: dict[str, object] = {"world": world, "student": student, "zero-shot": zero_shot["base"], "gap": gap}
        for mode in PAPER_MODES:
            row[mode] = mean(scores["CoOp", mode][seed]["base"] - zero_shot["base"] for seed in seeds)
        rows.append(row)
    return rows


def draw_gaps(rows: Sequence[dict[str, object]], file: Path) -> None:
    """Draw CoOp's gain against the teacher's lead, one point for each world, student and mode."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    looks = {"labels": ("#b5541c", "s"), "kdpl": ("#1f5fa8", "o"), "kdpl-ca": ("#4d8f4d", "^")}
    for mode, (colour, marker) in looks.items():
        for row in rows:
            is_ink = not str(row["world"]).startswith("emoji-colour")
            fill = colour if is_ink else "none"
            axes.scatter(row["gap"], row[mode], c=fill, edgecolors=colour, marker=marker, s=34)
        axes.scatter([], [], c=colour, marker=marker, label=mode)
    axes.scatter([], [], c="none", edgecolors="grey", label="hollow: emoji-colour")
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("teacher − student, zero-shot, base classes (points)")
    axes.set_ylabel("gain of the learned prompt on base classes (points)")
    axes.legend(frameon=False)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def choose_rates(
    out: Path, worlds: Sequence[str], learners: Sequence[str], student: str, n_seeds: int
) -> list[dict[str, object]]:
    """For each learner and rate, compute the mean top-1 on val over worlds and seeds, learned from labels."""
    runner = Runner(out)
    seeds = range(FIRST_CHOOSING_SEED, FIRST_CHOOSING_SEED + n_seeds)
    rows = []
    for name in learners:
        mode, rates = ("promptkd", PROMPTKD_RATES) if name == "promptkd" else ("labels", RATES)
        row: dict[str, object] = {"learner": name}
        for rate in rates:
            top1 = []
            for world in worlds:
                pairs = plan("base-to-novel", world, [name], [mode], seeds, lr=rate, student=(student, None))
                for config in (config for config, _ in pairs if config.learner == name):
                    learner = runner.learner(config)
                    top1.append(top1_on_val(runner, learner, runner.world(world), learner.classifier))
            row[f"lr {rate}"] = mean(top1)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--world", nargs="+", default=[f"emoji/{group}" for group in GROUPS])
    parser.add_argument("--student", nargs="+", default=list(STUDENTS), choices=STUDENTS)
    parser.add_argument("--learner", nargs="+", choices=LEARNERS, help="default: CoOp with all controls, linear head")
    parser.add_argument("--mode", nargs="+", choices=MODES, help="default: the paper's three")
    parser.add_argument("--seeds", type=count, default=5)
    parser.add_argument("--workers", type=count, default=2)
    parser.add_argument("--gap", type=Path, help="also run emoji-colour, and draw gain against lead into this file")
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    if args.choose:
        for student in args.student:
            rows = choose_rates(args.out, args.world, args.learner or ["coop"], student, args.seeds)
            print(f"\n{student}, {args.seeds} seeds, top-1 % on val\n\n{table(rows)}", flush=True)
        return
    seeds = range(1, args.seeds + 1)
    is_chosen = args.learner or args.mode
    compared = dict.fromkeys(args.learner or ["coop"], args.mode or PAPER_MODES) if is_chosen else COMPARED
    worlds = [f"{kind}/{group}" for kind in KINDS for group in GROUPS] if args.gap else args.world
    tables = plan_tables(worlds, args.student, compared, seeds)
    every_pair = [pair for pairs in tables.values() for pair in pairs]
    run(every_pair, args.out, workers=args.workers, report=lambda line: print(line, flush=True))
    for student in args.student:
        mine = [tables[world, student] for world in args.world]
        title = f"{student}, {args.seeds} seeds, mean of {len(mine)} groups"
        print(f"\n{title}, top-1 %. {machine('cpu')}\n\n{table(average_rows(mine, args.out))}")
        if args.seeds > 1:
            rows = differences(mine, args.out, seeds)
            print(f"\n{title}, differences in points, with 95 % intervals over seeds:\n\n{table(rows)}")
        print(f"\n{title}, hand-written templates:\n\n{table(hand_written(student, args.world, args.out))}")
    if args.gap:
        rows = gaps(args.out, tables, seeds)
        draw_gaps(rows, args.gap)
        print(f"\nThe teacher's lead and CoOp's gain, points on base classes:\n\n{table(rows)}")


if __name__ == "__main__":
    main()
