"""Many runs side by side, here or on a cluster."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import torch

from ..support.disk import write_whole
from .lab import Lab
from .plan import is_complete
from .slurm import RunsFailed, Unit, on_cluster
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

    Raises:
        RunsFailed: at the end, if some runs failed; the others are complete.
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
        results = _on_this_machine(todo, out, root, workers, report)
    else:
        results = on_cluster(todo, out, root, workers or len(todo), cluster, options or {}, report)
    for done, name in enumerate(results, start=1):
        left = (time.perf_counter() - start) / done * (len(todo) - done)
        report(f"{done} of {len(todo)}: {name}; about {left / 60:.0f} min left")


def _on_this_machine(
    todo: Sequence[Unit], out: Path, root: str | Path | None, workers: int | None, report: Callable[[str], None]
) -> Iterator[str]:
    """The names of runs as they become complete; those that failed are told at the end."""
    gpus = torch.cuda.device_count()
    workers = min(len(todo), workers or gpus or min(4, max(1, (os.cpu_count() or 1) // 2)))
    attempts = _one_by_one(todo, out, root) if workers == 1 else _side_by_side(todo, out, root, workers, gpus)
    failed: dict[str, Exception] = {}
    for name, error in attempts:
        file = out / "failed" / f"{name}.txt"
        if error is None:
            file.unlink(missing_ok=True)  # of an earlier try
            yield name
            continue
        failed[name] = error
        trace = "".join(traceback.format_exception(error))
        write_whole(file, lambda part, trace=trace: part.write_text(trace, "utf-8"))
        report(f"{name} failed: {type(error).__name__}: {error} ({file})")
    if not failed:
        return
    first_error = next(iter(failed.values()))
    if len(failed) == len(todo) and len({str(error) for error in failed.values()}) == 1:
        raise first_error  # nothing could be done for one reason: it is what the user has to read
    some = ", ".join(list(failed)[:3]) + (" …" if len(failed) > 3 else "")
    raise RunsFailed(
        f"{len(failed)} of {len(todo)} runs failed ({some}; the first: {first_error}): what went wrong is in "
        f"{out / 'failed'}; the same command tries them again."
    )


Attempt = tuple[str, Exception | None]  # a run's name, and why it failed


def _one_by_one(todo: Sequence[Unit], out: Path, root: str | Path | None) -> Iterator[Attempt]:
    lab = Lab(out, root)
    for job, evaluations in todo:
        name = job.folder(out).name
        try:
            _unit(job, evaluations, lab)
        except Exception as error:
            yield name, error
        else:
            yield name, None


def _side_by_side(
    todo: Sequence[Unit], out: Path, root: str | Path | None, workers: int, gpus: int
) -> Iterator[Attempt]:
    context = multiprocessing.get_context("spawn")
    places = context.Queue()
    for i in range(workers):
        device = f"cuda:{i % gpus}" if gpus else None
        places.put((device, max(1, (os.cpu_count() or 1) // workers)))
    with ProcessPoolExecutor(workers, context, _init_worker, (places, out, root)) as pool:
        names = {}
        for job, evaluations in todo:
            names[pool.submit(_run_in_worker, job, evaluations)] = job.folder(out).name
        for future in as_completed(names):
            yield names[future], future.exception()


def _unit(job: Training, evaluations: Sequence[Evaluation], lab: Lab) -> None:
    for evaluation in evaluations:
        lab.score(job, evaluation)


_lab: Lab | None = None  # of a worker process: its models and worlds serve all its runs


def _init_worker(places, out: Path, root) -> None:
    global _lab
    device, threads = places.get()
    torch.set_num_threads(threads)  # more threads than cores make all of them slower
    _lab = Lab(out, root, device)


def _run_in_worker(job: Training, evaluations: Sequence[Evaluation]) -> None:
    _unit(job, evaluations, _lab)
