"""Many runs side by side, here or on a cluster."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import torch

from .lab import Lab
from .plan import is_complete
from .slurm import on_cluster
from .training import Evaluation, Training


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
