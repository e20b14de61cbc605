"""Five learners under three kinds of supervision on the emoji world: one table, all of it computed here.

    python benchmarks/learners.py                 the table: five seeds, 22 minutes on two cores
    python benchmarks/learners.py --choose        how the learning rates of the emoji world were chosen

The rates are chosen for labels only, on base pictures left out of the shots, and serve all three kinds alike. Runs are
kept in --out, and the command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean, stdev

import torch
from measure import machine, table

from kdpl_utils.evaluate import accuracy
from kdpl_utils.experiments.lab import Lab
from kdpl_utils.experiments.plan import plan
from kdpl_utils.experiments.run import run
from kdpl_utils.experiments.tables import table_rows
from kdpl_utils.experiments.training import PAPER_MODES as MODES
from kdpl_utils.experiments.training import Training
from kdpl_utils.learners import PROMPT_LEARNERS as LEARNERS
from kdpl_utils.protocol import all_logits
from kdpl_utils.shots import few_shot

RATES = (0.003, 0.0125, 0.05, 0.2)


@torch.no_grad()
def left_out(lab: Lab, job: Training) -> float:
    """Top-1, per cent, among the base names on base training pictures that are not among the shots."""
    world, learner = lab.world(job.world), lab.learner(job)
    train = world.train.of_classes(world.base)
    shots = set(few_shot(train.labels, job.shots, job.seed).tolist())
    rest = train.subset([i for i in range(len(train)) if i not in shots])
    inputs = lab.inputs(learner, rest)
    classify = learner.classifier([world.classnames[i] for i in world.base])
    z = all_logits(classify, inputs)
    return 100 * accuracy(z, rest.labels.to(z.device))


def choose(out: Path, world: str, learners: list[str]) -> list[dict[str, object]]:
    lab, rows = Lab(out), []
    for name in learners:
        row: dict[str, object] = {"learner": name}
        for rate in RATES:
            # Seeds 11 and 12: the table has its own.
            jobs = [plan("base-to-novel", world, [name], ["labels"], [s], lr=rate)[-1][0] for s in (11, 12)]
            row[f"lr {rate}"] = mean(left_out(lab, job) for job in jobs)
        rows.append(row)
        print(name, *(f"{row[f'lr {rate}']:.1f}" for rate in RATES), flush=True)
    return rows


def gains(pairs: list, out: Path) -> list[dict[str, object]]:
    """For each learner, KDPL minus labels in H, paired by seed: mean and standard error."""
    lab, found = Lab(out), []
    for name in LEARNERS:
        mine = [(job, test) for job, test in pairs if job.learner == name]
        by_mode = {m: {job.seed: lab.score(job, test)["H"] for job, test in mine if job.mode == m} for m in MODES}
        row: dict[str, object] = {"learner": LEARNERS[name].__name__}
        for mode in MODES[1:]:
            difference = [by_mode[mode][s] - by_mode["labels"][s] for s in by_mode["labels"]]
            row[f"{mode} − labels, H"] = f"{mean(difference):+.1f} ± {stdev(difference) / len(difference) ** 0.5:.1f}"
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--world", default="emoji")
    parser.add_argument("--learner", nargs="+", default=list(LEARNERS), choices=LEARNERS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    start = time.perf_counter()
    if args.choose:
        print(table(choose(args.out, args.world, args.learner)))
        return
    pairs = plan("base-to-novel", args.world, args.learner, MODES, range(1, args.seeds + 1))
    run(pairs, args.out, workers=args.workers, report=lambda line: print(line, flush=True))
    rows = table_rows(pairs, args.out)
    print(f"\n{args.world}, emoji-student-vit, {args.seeds} seeds, top-1 %. {machine('cpu')}\n\n{table(rows)}")
    if set(args.learner) == set(LEARNERS) and args.seeds > 1:
        print(f"\nPaired by seed, mean ± standard error:\n\n{table(gains(pairs, args.out))}")
    print(f"\n{(time.perf_counter() - start) / 60:.1f} minutes in this call")


if __name__ == "__main__":
    main()
