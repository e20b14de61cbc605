"""Many runs side by side, here or on a cluster."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from ..support.disk import DiskFull, as_path, write_whole
from ..support.locks import Busy
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
    out, units = as_path(out), {}
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
    with closing(results):  # also when the report is interrupted
        for done, name in enumerate(results, start=1):
            left = (time.perf_counter() - start) / done * (len(todo) - done)
            report(f"{done} of {len(todo)}: {name}; about {left / 60:.0f} min left")


def _on_this_machine(
    todo: Sequence[Unit], out: Path, root: str | Path | None, workers: int | None, report: Callable[[str], None]
) -> Iterator[str]:
    """The names of runs as they become complete; those that failed are told at the end."""
    gpus = torch.cuda.device_count()
    workers = min(len(todo), workers or gpus or min(4, max(1, (os.cpu_count() or 1) // 2)))
    attempts = _one_by_one(todo, out, root, report) if workers == 1 else _side_by_side(todo, out, root, workers, gpus)
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


def _one_by_one(
    todo: Sequence[Unit], out: Path, root: str | Path | None, report: Callable[[str], None]
) -> Iterator[Attempt]:
    lab = Lab(out, root, report=report)
    for wait in (False, True):  # first what no other command is at; then what others are at, by now or soon complete
        busy = []
        for job, evaluations in todo:
            try:
                _unit(job, evaluations, lab, wait)
            except Busy:
                busy.append((job, evaluations))
            except DiskFull:  # nor is there room for the next
                raise
            except Exception as error:
                yield job.folder(out).name, error
            else:
                yield job.folder(out).name, None
        todo = busy


def _side_by_side(
    todo: Sequence[Unit], out: Path, root: str | Path | None, workers: int, gpus: int
) -> Iterator[Attempt]:
    check_main_guard()
    context = multiprocessing.get_context("spawn")
    places = context.Queue()
    for i in range(workers):
        device = f"cuda:{i % gpus}" if gpus else None
        places.put((device, max(1, (os.cpu_count() or 1) // workers)))
    with _ended(ProcessPoolExecutor(workers, context, _init_worker, (places, out, root))) as pool:
        for wait in (False, True):  # as in _one_by_one
            units, busy = {}, []
            for job, evaluations in todo:
                with _no_interrupts():
                    units[pool.submit(_run_in_worker, job, evaluations, wait)] = (job, evaluations)
            for future in as_completed(units):
                error = future.exception()
                if isinstance(error, Busy):
                    busy.append(units[future])
                elif isinstance(error, DiskFull):
                    raise error
                elif isinstance(error, BrokenProcessPool):
                    raise RunsFailed(
                        "A worker process ended without a word, as the system ends one when memory is short: give the "
                        "same command with fewer --workers; what is complete is kept."
                    ) from error
                else:
                    yield units[future][0].folder(out).name, error
            todo = busy


@contextmanager
def _ended(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """The pool, which ends with this: at an interrupt at once, its workers and all that waits."""
    others = set(multiprocessing.active_children())
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    pool.shutdown()


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal: workers that are started in here leave it to this one."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def check_main_guard() -> None:
    """Refuse to start workers from a script without a main guard: each of them would read it and start workers again.

    Raises:
        ValueError: says what to do.
    """
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script is None or not Path(script).is_file():  # a notebook, a console
        return
    if "__main__" not in Path(script).read_text(encoding="utf-8", errors="replace"):
        raise ValueError(
            f"{script} has no main guard, and each worker would run it again: put what it does under "
            "\"if __name__ == '__main__':\", or ask for workers=1."
        )


def _unit(job: Training, evaluations: Sequence[Evaluation], lab: Lab, wait: bool) -> None:
    for evaluation in evaluations:
        lab.score(job, evaluation, wait)


_lab: Lab | None = None  # of a worker process: its models and worlds serve all its runs


def _init_worker(places, out: Path, root) -> None:
    global _lab
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    device, threads = places.get()
    torch.set_num_threads(threads)  # more threads than cores make all of them slower
    _lab = Lab(out, root, device)


def _end_with_parent() -> None:
    """A worker whose parent was killed has nobody to work for."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _run_in_worker(job: Training, evaluations: Sequence[Evaluation], wait: bool) -> None:
    _unit(job, evaluations, _lab, wait)
