"""The paper's comparisons: which runs a table asks for, and many of them side by side, here or on a cluster."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .cluster import on_cluster
from .data import World, load_world, world_names
from .lab import LEARNERS, MODES, Evaluation, Lab, Training, emoji_recipe, is_emoji, judged_by, taught_by
from .learners import promptsrc
from .train import Recipe

TABLES = ("base-to-novel", "domain", "cross-dataset", "few-shot")
KINDS = {"base-to-novel": "halves", "domain": "domains", "few-shot": "test", "cross-dataset": "transfer"}
VIEWS = 8  # crops of each photograph, drawn once so that every model sees them once

# What the paper transfers ImageNet's prompts to.
TARGETS = ("caltech101", "oxford_pets", "stanford_cars", "flowers102", "food101", "fgvc_aircraft", "sun397", "dtd",
           "eurosat", "ucf101")  # fmt: skip


def plan(
    table: str,
    world: str,
    learners: Sequence[str],
    modes: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int] = (16,),
    targets: Sequence[str] = (),
    root: str | Path | None = None,
    **options,
) -> list[tuple[Training, Evaluation]]:
    """The (training, evaluation) pairs of a table, the zero-shot student first.

    Args:
        table: one of ``TABLES``. ``base-to-novel`` trains on half of the classes; ``domain`` and ``cross-dataset``
            on all, and test on the world's shifts, or on the test pictures of ``targets``; ``few-shot`` on its own.
        targets: by default the paper's ten for ImageNet, and the other groups for a group of the emoji world.
        options: fields of ``Training``, or of its recipe, that differ from the published ones; ``labelled`` goes to
            mode ``"kdpl"`` alone.

    Raises:
        ValueError: unknown names, or no targets.
        FileNotFoundError: a data set is not there: said now, not after hours of training.
    """
    for what, given, known in (("table", [table], TABLES), ("learner", learners, LEARNERS), ("mode", modes, MODES)):
        if wrong := [g for g in given if g not in known]:
            raise ValueError(f"There is no {what} {wrong[0]!r}: choose from {', '.join(known)}.")
    labelled = options.get("labelled") or 0.0
    if not 0 <= labelled <= 1 or (labelled and "kdpl" not in modes):
        raise ValueError(f"labelled = {labelled}: give the share of labels, 0 to 1, that mode 'kdpl' may learn from.")
    kind, home = KINDS[table], load_world(world, root)
    where = (targets or _targets(world)) if kind == "transfer" else [world]
    judges = [home if target == world else load_world(target, root) for target in where]
    evaluations = [Evaluation(kind, target, judged_by(judge, kind)) for target, judge in zip(where, judges)]
    classes = "base" if kind == "halves" else "all"
    sizes = shots if table == "few-shot" else shots[:1]
    chosen = [("zero-shot", "labels", 0, 16)]
    chosen += [(learner, mode, seed, n) for learner in learners for mode in modes for n in sizes for seed in seeds]
    return [
        (_training(home, world, classes, *one, transfers=classes == "all", **options), evaluation)
        for one in chosen
        for evaluation in evaluations
    ]


def _targets(world: str) -> Sequence[str]:
    if world == "imagenet":
        return TARGETS
    if world.startswith("emoji/"):
        return [name for name in world_names() if name.startswith("emoji/") and name != world]
    raise ValueError(f"A cross-dataset table of {world} needs targets: the names of the worlds to test on.")


def _training(
    home: World, world: str, classes: str, learner: str, mode: str, seed: int, shots: int, transfers: bool, **options
) -> Training:
    emoji, zero_shot = is_emoji(home), learner == "zero-shot"
    recipe = Recipe() if zero_shot else LEARNERS[learner].recipe
    settings = {}
    if learner == "promptsrc" and transfers and not emoji:
        recipe, settings = promptsrc.CROSS_DATASET["recipe"], promptsrc.CROSS_DATASET["settings"]
    if emoji and not zero_shot:
        recipe = emoji_recipe(learner, recipe)
    of_recipe = {key: options.pop(key) for key in ("epochs", "batch_size", "lr") if options.get(key) is not None}
    if not zero_shot:
        recipe = replace(recipe, **of_recipe, seed=seed)
    made = {
        "student": tuple(home.student if not emoji else home.students[-1]),  # a ViT: all five learners need one
        "teachers": (tuple(home.teacher),),
        "views": 0 if emoji else VIEWS,
        "settings": settings,
        "data": taught_by(home, mode),
        **{key: value for key, value in options.items() if value is not None},
    }
    if mode != "kdpl":
        made["labelled"] = 0.0
    if mode != "kdpl-ca":
        made["k"] = 0
    if zero_shot:  # depends on nothing that is learned
        made.update(teachers=(), views=0, settings={}, data="", scale="student")
    return Training(world, learner, mode, seed, recipe=recipe, classes=classes, shots=shots, **made)


def is_complete(job: Training, evaluation: Evaluation, out: Path) -> bool:
    return evaluation.file(job, out).is_file()


# --- many of them, side by side -------------------------------------------------------------------------------------


def run(
    pairs: Sequence[tuple[Training, Evaluation]],
    out: str | Path,
    root: str | Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    report: Callable[[str], None] = lambda line: None,
    options: Mapping[str, object] | None = None,
) -> None:
    """Do what is not complete yet, each training with all its evaluations in one process.

    Args:
        workers: processes side by side; by default one for each GPU, or else for each two cores up to four; on a
            cluster, all of them.
        cluster: ``"slurm"`` sends each training to a Slurm cluster through submitit (``"local"``: to this machine);
            ``out`` must lie on a disk that all of them see.
        report: gets a line for each training that is complete.
        options: what each job asks the cluster for, see ``on_cluster``.
    """
    out, units = Path(out), {}
    for job, evaluation in pairs:
        if not is_complete(job, evaluation, out):
            units.setdefault(json.dumps(asdict(job), sort_keys=True), (job, []))[1].append(evaluation)
    todo = list(units.values())
    report(f"{len(todo)} of {len({json.dumps(asdict(j), sort_keys=True) for j, _ in pairs})} runs are to be done.")
    if not todo:
        return
    start = time.perf_counter()
    if cluster is None:
        results = _side_by_side(todo, out, root, workers)
    else:
        results = on_cluster(todo, out, root, workers or len(todo), cluster, options or {}, report)
    for done, name in enumerate(results, start=1):
        left = (time.perf_counter() - start) / done * (len(todo) - done)
        report(f"{done} of {len(todo)}: {name}; about {left / 60:.0f} min left")


def _side_by_side(todo: list, out: Path, root, workers: int | None) -> Iterator[str]:
    """The names of runs as they become complete."""
    gpus = torch.cuda.device_count()
    workers = min(len(todo), workers or gpus or min(4, max(1, (os.cpu_count() or 1) // 2)))
    if workers == 1:
        lab = Lab(out, root)
        for job, evaluations in todo:
            yield _unit(job, evaluations, lab)
    else:
        context = multiprocessing.get_context("spawn")
        places = context.Queue()
        for i in range(workers):
            places.put((f"cuda:{i % gpus}" if gpus else None, max(1, (os.cpu_count() or 1) // workers)))
        with ProcessPoolExecutor(workers, context, _take_place, (places, out, root)) as pool:
            for future in as_completed([pool.submit(_here, job, evaluations) for job, evaluations in todo]):
                yield future.result()


def _unit(job: Training, evaluations: Sequence[Evaluation], lab: Lab) -> str:
    for evaluation in evaluations:
        lab.score(job, evaluation)
    return job.folder(lab.out).name


_lab: Lab | None = None  # of a worker process: its models and worlds serve all its runs


def _take_place(places, out: Path, root) -> None:
    global _lab
    device, threads = places.get()
    torch.set_num_threads(threads)  # more threads than cores make all of them slower
    _lab = Lab(out, root, device)


def _here(job: Training, evaluations: Sequence[Evaluation]) -> str:
    return _unit(job, evaluations, _lab)
