"""Many runs: on this machine, a worker for each GPU, or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

import torch
from tqdm import tqdm

from ..support.disk import as_path, atomic_write
from . import RunsFailedError
from .runner import Evaluation, RunConfig, Runner, finished
from .slurm import Job, on_cluster

Outcomes = Iterator[tuple[Job, Exception | None]]


def run(
    pairs: Sequence[tuple[RunConfig, Evaluation]],
    out: str | Path,
    root: str | Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    report: Callable[[str], None] = lambda line: None,
    options: Mapping[str, object] | None = None,
) -> None:
    """Do the runs that are not finished, each with all its evaluations in one process.

    Args:
        workers: processes side by side; by default one for each GPU, and on a cluster all.
        cluster: ``"slurm"`` sends each run to a cluster whose machines all see ``out``; ``"local"`` to this machine.
        report: takes a line for each run that ends.
        options: what a job asks the cluster for, see ``on_cluster``.

    Raises:
        RunsFailedError: at the end, if runs failed; the others are finished.
    """
    out = as_path(out)
    jobs: dict[Path, Job] = {}
    for config, evaluation in pairs:
        if not finished(config, evaluation, out):
            jobs.setdefault(config.folder(out), Job(config, [], out, root)).evaluations.append(evaluation)
    todo = list(jobs.values())
    report(f"{len(todo)} of {len({config.folder(out) for config, _ in pairs})} runs are to be done.")
    side_by_side = workers or torch.cuda.device_count() or 1
    if cluster and todo:
        at_once = {"slurm_array_parallelism": workers} if workers and cluster == "slurm" else {}
        outcomes = on_cluster(todo, cluster, {**at_once, **(options or {})})
    elif min(side_by_side, len(todo)) > 1:
        outcomes = _in_workers(todo, min(side_by_side, len(todo)))
    else:
        outcomes = _in_this_process(todo)
    failed = []
    with closing(outcomes):  # also when this is interrupted
        for done, (job, error) in enumerate(outcomes, start=1):
            name = job.config.folder(out).name
            if not error and not all(finished(job.config, evaluation, out) for evaluation in job.evaluations):
                error = RuntimeError("an earlier job made other scores of this run: give the same command again")
            reason = str(error).partition("\n")[0]  # of a job on a cluster the trace follows
            report(f"{done} of {len(todo)}: {name}" + (f" failed: {reason}" if error else ""))
            if error:
                failed.append(f"{name}: {reason}")
                trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
                atomic_write(out / "failed" / f"{name}.txt", lambda part, trace=trace: part.write_text(trace, "utf-8"))
    if failed:
        raise RunsFailedError(
            f"{len(failed)} of {len(todo)} runs failed, the first of them {failed[0]} The reasons are in "
            f"{out / 'failed'}; the same command tries them again."
        )


def _in_this_process(jobs: Sequence[Job]) -> Outcomes:
    runner = Runner(jobs[0].out, jobs[0].root, progress=True) if jobs else None
    for job in jobs:
        try:
            job.score(runner)
            yield job, None
        except Exception as error:
            yield job, error


def _in_workers(jobs: Sequence[Job], workers: int) -> Outcomes:
    context = multiprocessing.get_context("spawn")
    gpus = torch.cuda.device_count()
    devices = context.Queue()
    for i in range(workers):
        devices.put(f"cuda:{i % gpus}" if gpus else None)
    threads = max(1, (os.cpu_count() or 1) // workers)  # more threads than cores slow all of them down
    pool = ProcessPoolExecutor(workers, context, _start_worker, (devices, threads, jobs[0].out, jobs[0].root))
    others = set(multiprocessing.active_children())
    try:
        # Ctrl-C reaches every process of a terminal: workers inherit that it is ignored, and this process ends them.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        futures = {pool.submit(_score_in_worker, job): job for job in jobs}
        signal.signal(signal.SIGINT, handler)
        for future in as_completed(futures):
            yield futures[future], future.exception()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    pool.shutdown()


_runner: Runner | None = None  # of a worker: its worlds and models serve all its runs


def _start_worker(devices, threads: int, out: Path, root: str | Path | None) -> None:
    global _runner
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # the plan has shown them
    tqdm.set_lock(threading.RLock())  # its own lock between processes would outlive a worker that is ended
    torch.set_num_threads(threads)
    _runner = Runner(out, root, devices.get())


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _score_in_worker(job: Job) -> None:
    job.score(_runner)
