"""Learners under several kinds of supervision on the emoji world: one table, all of it computed here.

    python benchmarks/learners.py                          CoOp, both students, six groups, five seeds
    python benchmarks/learners.py --learner coop cocoop vpt maple promptsrc --student emoji-student-vit
    python benchmarks/learners.py --sceptic --student emoji-student-vit
                                                           a linear head, PromptKD, other teachers, hand-written words
    python benchmarks/learners.py --gap gap.png            both worlds: what is gained against what the teacher is ahead
    python benchmarks/learners.py --choose                 how the learning rates of the emoji world were chosen

The rates are chosen for labels only, on the pictures of ``val``, and serve all kinds of supervision alike; PromptKD's
for its own objective, the only one it is run with.  Runs are kept in --out, and the command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from measure import count, machine, table

import kdpl_utils as kd
from kdpl_utils.experiments.lab import Lab
from kdpl_utils.experiments.plan import plan
from kdpl_utils.experiments.run import run
from kdpl_utils.experiments.tables import Method, average_rows, average_scores
from kdpl_utils.experiments.training import CONTROLS, MODES, PAPER_MODES, Evaluation, Training
from kdpl_utils.learners import LEARNERS
from kdpl_utils.protocol import all_logits, evaluation_inputs
from kdpl_utils.support.disk import write_whole
from kdpl_utils.worlds.emoji import EMOJI_STUDENTS, GROUPS, HAND_WRITTEN_TEMPLATES, HANDS

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- results: start -->\n", "<!-- results: end -->\n"
RATES = (0.003, 0.0125, 0.05, 0.2)
PROMPTKD_RATES = (0.00003, 0.0001, 0.0003, 0.001)  # its loss is weighted, here some 40 times
FIRST_CHOOSING_SEED = 11  # the table has its own
# What a sceptic asks for beside CoOp under the paper's three kinds: the teacher replaced, a head in place of a prompt,
# and another objective.
SCEPTIC = {"coop": (*PAPER_MODES, *CONTROLS), "linear": ("labels", "kdpl"), "promptkd": ("promptkd",)}
STUDENTS = tuple(name for name, _ in EMOJI_STUDENTS)


@torch.no_grad()
def on_val(lab: Lab, job: Training) -> float:
    """Top-1, per cent, among the base names on base pictures of ``val``."""
    world, learner = lab.world(job.world), lab.learner(job)
    val = world.val.of_classes(world.base)
    classify = learner.classifier([world.classnames[c] for c in world.base])
    z = all_logits(classify, lab.inputs(learner, val))
    return 100 * kd.accuracy(z, val.labels.to(z.device))


def choose(
    out: Path, worlds: Sequence[str], learners: Sequence[str], student: str, n_seeds: int
) -> list[dict[str, object]]:
    """For each learner and rate the mean over groups and seeds of what labels, or PromptKD, reach on val."""
    lab, rows = Lab(out), []
    for name in learners:
        row: dict[str, object] = {"learner": name}
        mode, rates = ("promptkd", PROMPTKD_RATES) if name == "promptkd" else ("labels", RATES)
        for rate in rates:
            found = []
            for world in worlds:
                for seed in range(FIRST_CHOOSING_SEED, FIRST_CHOOSING_SEED + n_seeds):
                    pairs = plan("base-to-novel", world, [name], [mode], [seed], lr=rate, student=(student, None))
                    found.append(on_val(lab, pairs[-1][0]))
            row[f"lr {rate}"] = mean(found)
        rows.append(row)
        print(name, *(f"{row[f'lr {rate}']:.1f}" for rate in rates), flush=True)
    return rows


def zero_shot_row(scores: dict[Method, dict[int, dict[str, float]]]) -> dict[str, float]:
    """The row that no seed changes."""
    by_seed = next(rows for method, rows in scores.items() if method.method == "zero-shot")
    return next(iter(by_seed.values()))


def differences(tables: list, out: Path, seeds: Sequence[int]) -> list[dict[str, object]]:
    """Of each learner and supervision, what it is above zero-shot and above labels, with Student's 95 % intervals."""
    scores = average_scores(tables, out)
    zero_shot = zero_shot_row(scores)
    with_labels = {method.method: by_seed for method, by_seed in scores.items() if method.supervision == "labels"}
    found = []
    for method, by_seed in scores.items():
        if not method.supervision:
            continue
        row: dict[str, object] = {"learner": method.method, "supervision": method.supervision}
        for column in ("base", "novel", "H"):
            mine = [by_seed[seed][column] for seed in seeds]
            if any(math.isnan(value) for value in mine):  # a linear head cannot name novel classes
                continue
            row[f"{column} − zero-shot"] = with_interval([zero_shot[column]] * len(mine), mine)
            labels = with_labels.get(method.method)
            if labels and method.supervision != "labels":
                row[f"{column} − labels"] = with_interval([labels[seed][column] for seed in seeds], mine)
        found.append(row)
    columns = list(dict.fromkeys(column for row in found for column in row))
    return [{column: row.get(column, "–") for column in columns} for row in found]


def with_interval(before: Sequence[float], after: Sequence[float]) -> str:
    difference, low, high = kd.paired_interval(before, after)
    return f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]"


def hand_written(student: str, worlds: Sequence[str], out: Path) -> list[dict[str, object]]:
    """The control of every learned context: the first template, and the best on val for all groups together."""
    lab = Lab(out)
    zero_shot, _ = plan("base-to-novel", worlds[0], [], [], [], student=(student, None))[0]
    learner = lab.learner(zero_shot)
    loaded = [replace(lab.world(world), shifts={}) for world in worlds]

    def top1_on_val(template: str) -> float:
        found = []
        for world in loaded:
            val = world.val.of_classes(world.base)
            text = kd.encode_names(learner.vlm, [world.classnames[c] for c in world.base], [template])
            z = kd.logits(lab.inputs(learner, val), text, learner.vlm.scale)
            found.append(100 * kd.accuracy(z, val.labels.to(z.device)))
        return mean(found)

    on_val = {template: top1_on_val(template) for template in HAND_WRITTEN_TEMPLATES}
    first, best = HAND_WRITTEN_TEMPLATES[0], max(on_val, key=on_val.get)
    table_rows = []
    for template, chosen in ((first, "no"), (best, "of ten, on val")):
        encode = functools.partial(kd.encode_names, learner.vlm, templates=[template])
        scores = []
        for world in loaded:
            tests = evaluation_inputs(world, learner.vlm.device, lambda split: lab.inputs(learner, split))
            scores.append(kd.scores(tests, world, encode, learner.vlm.scale))
        base, novel = (mean(row[column] for row in scores) for column in ("base", "novel"))
        numbers = {"on val": on_val[template], "base": base, "novel": novel, "H": kd.harmonic_mean(base, novel)}
        table_rows.append({"template": template, "chosen": chosen, **{c: f"{x:.1f}" for c, x in numbers.items()}})
    return table_rows


def tables_of(
    worlds: Sequence[str], students: Sequence[str], wanted: dict[str, Sequence[str]], seeds: Sequence[int]
) -> dict[tuple[str, str], list[tuple[Training, Evaluation]]]:
    """The runs of each world and student: the zero-shot student, and each learner under its kinds of supervision."""
    tables = {}
    for student in students:
        for world in worlds:
            pairs = []
            for learner, modes in wanted.items():
                found = plan("base-to-novel", world, [learner], modes, seeds, student=(student, None))
                pairs += [pair for pair in found if pair not in pairs]  # the zero-shot student once
            tables[world, student] = pairs
    return tables


def gaps(out: Path, tables: dict[tuple[str, str], list], seeds: Sequence[int]) -> list[dict[str, object]]:
    """For each world and student: how far the teacher is ahead on base test pictures, and what CoOp gains there."""
    lab, rows = Lab(out), []
    for (world, student), pairs in tables.items():
        scores = average_scores([pairs], out)
        as_student = plan("base-to-novel", world, [], [], [], student=lab.world(world).teacher)
        teacher = lab.score(*as_student[0])["base"]
        zero_shot = zero_shot_row(scores)["base"]
        row: dict[str, object] = {
            "world": world,
            "student": student,
            "zero-shot": zero_shot,
            "gap": teacher - zero_shot,
        }
        for method, by_seed in scores.items():
            if method.method == "CoOp":
                row[method.supervision] = mean(by_seed[seed]["base"] - zero_shot for seed in seeds)
        rows.append(row)
    return rows


def draw_gaps(rows: list[dict[str, object]], file: Path) -> None:
    """Gain against gap, a point for each world and student, one colour a supervision."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    looks = {"labels": ("#b5541c", "s"), "kdpl": ("#1f5fa8", "o"), "kdpl-ca": ("#4d8f4d", "^")}
    for mode, (colour, marker) in looks.items():
        for row in rows:
            ink = not str(row["world"]).startswith("emoji-colour")
            axes.scatter(row["gap"], row[mode], c=colour if ink else "none", edgecolors=colour, marker=marker, s=34)
        axes.scatter([], [], c=colour, marker=marker, label=mode)
    axes.scatter([], [], c="none", edgecolors="grey", label="hollow: emoji-colour")
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("teacher − student, zero-shot, base classes (points)")
    axes.set_ylabel("gain of the learned prompt on base classes (points)")
    axes.legend(frameon=False)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def write_readme(text: str) -> None:
    """Put the printed tables between the marks of README.md."""
    before, rest = README.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    write_whole(README, lambda part: part.write_text(f"{before}{START}{text}\n{END}{after}", encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--world", nargs="+", default=[f"emoji/{group}" for group in GROUPS])
    parser.add_argument("--student", nargs="+", default=list(STUDENTS), choices=STUDENTS)
    parser.add_argument("--learner", nargs="+", default=["coop"], choices=LEARNERS)
    parser.add_argument("--mode", nargs="+", default=list(PAPER_MODES), choices=MODES)
    parser.add_argument("--sceptic", action="store_true", help="what a sceptic asks for, in place of --learner")
    parser.add_argument("--seeds", type=count, default=5)
    parser.add_argument("--workers", type=count, default=2)
    parser.add_argument(
        "--gap", type=Path, help="also run the contrast world, and draw gain against gap into this file"
    )
    parser.add_argument("--readme", action="store_true", help="write the tables of methods into README.md, too")
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    start = time.perf_counter()
    if args.choose:
        for student in args.student:
            rows = choose(args.out, args.world, args.learner, student, args.seeds)
            print(f"\n{student}, {args.seeds} seeds, top-1 % on val\n\n{table(rows)}")
        return
    seeds = range(1, args.seeds + 1)
    worlds = [*args.world]
    if args.gap:
        worlds = [f"{kind}/{group}" for kind in HANDS for group in GROUPS]
    wanted = SCEPTIC if args.sceptic else dict.fromkeys(args.learner, args.mode)
    tables = tables_of(worlds, args.student, wanted, seeds)
    every_pair = [pair for pairs in tables.values() for pair in pairs]
    run(every_pair, args.out, workers=args.workers, report=lambda line: print(line, flush=True))
    printed = []
    for student in args.student:
        mine = [tables[world, student] for world in args.world]
        title = f"{student}, {args.seeds} seeds, mean of {len(mine)} groups, top-1 %. {machine('cpu')}"
        printed.append(f"{title}\n\n{table(average_rows(mine, args.out))}")
        if args.seeds > 1:
            rows = differences(mine, args.out, seeds)
            printed.append(f"{student}, differences in points, with 95 % intervals over seeds:\n\n{table(rows)}")
        if args.sceptic:
            rows = hand_written(student, args.world, args.out)
            printed.append(f"{student}, hand-written templates, mean of {len(mine)} groups:\n\n{table(rows)}")
    if args.gap:
        rows = gaps(args.out, tables, seeds)
        draw_gaps(rows, args.gap)
        print(f"\nWhat the teacher is ahead, and what is gained; points on base classes:\n\n{table(rows)}")
    print("\n" + "\n\n".join(printed))
    if args.readme:
        write_readme("\n" + "\n\n".join(printed))
    print(f"\n{(time.perf_counter() - start) / 60:.1f} minutes in this call")


if __name__ == "__main__":
    main()
