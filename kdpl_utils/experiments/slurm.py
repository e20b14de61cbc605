"""Runs sent to a Slurm cluster, through submitit: one job for each training, watched until its scores are there."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from ..support.disk import write_whole
from ..support.extras import optional
from .lab import Lab
from .plan import is_complete
from .training import Evaluation, Training

Unit = tuple[Training, list[Evaluation]]
POLL = {"slurm": 5.0, "local": 1.0}  # seconds
ANSWER_SECONDS = 60.0  # for one command of Slurm's
START_SECONDS = 180.0  # for the first answer
SILENT_SECONDS = 1800.0  # for an answer while jobs run: a controller that restarts takes minutes
NEVER = ("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints")  # reasons that do not pass


class RunsFailed(Exception):
    """Some runs ended without their scores; says where their output is."""


def on_cluster(
    todo: Sequence[Unit],
    out: Path,
    root: str | Path | None,
    workers: int,
    cluster: str,
    options: Mapping[str, object],
    report: Callable[[str], None],
) -> Iterator[str]:
    """The names of trainings as their scores become complete.

    A job that an earlier command sent and that is still queued is waited for, not sent again.

    Args:
        workers: jobs that may run at once.
        cluster: ``"slurm"``, or ``"local"`` for processes on this machine.
        options: what each job asks Slurm for, over the defaults: submitit's ``cpus_per_task``, ``gpus_per_node``,
            ``mem_gb``, ``timeout_min``, or any of sbatch's with ``slurm_`` before it, as ``slurm_partition``.

    Raises:
        ValueError: an option that submitit does not know.
        RunsFailed: at the end, if jobs were lost or failed; the others are complete. Or Slurm has fallen silent.
        OSError: Slurm is not there, or does not answer.
    """
    queued = _first_queue(report) if cluster == "slurm" else {}
    sent = {unit[0].folder(out): _sent_before(unit, out, queued) for unit in todo}
    new = [unit for unit in todo if sent[unit[0].folder(out)] is None]
    if new:
        executor = _executor(out, workers, cluster, options, report)
        try:
            with executor.batch():  # one array job, so that Slurm itself sees to it that only so many run at once
                jobs = [executor.submit(_run_in_job, job, evaluations, out, root) for job, evaluations in new]
        except optional("submitit", "cluster").core.utils.FailedJobError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"Slurm took no job ({reason}): ask for something else with --slurm.") from error
        for (training, _), job in zip(new, jobs):
            sent[training.folder(out)] = job.job_id
            write_whole(_note(training, out), lambda part, job=job: part.write_text(job.job_id))
    local = {} if cluster == "slurm" else {job.job_id: job for job in jobs}
    yield from _watch({sent[unit[0].folder(out)]: unit for unit in todo}, out, cluster, local, report)


def _executor(out: Path, workers: int, cluster: str, options: Mapping[str, object], report: Callable[[str], None]):
    submitit = optional("submitit", "cluster")
    executor = submitit.AutoExecutor(folder=out.absolute() / "cluster", cluster=cluster)
    asked = {"timeout_min": 24 * 60, "cpus_per_task": min(4, os.cpu_count() or 1)}
    if cluster == "slurm":
        asked |= {"gpus_per_node": int(torch.cuda.is_available()), "slurm_array_parallelism": workers}
    asked |= options
    try:
        executor.update_parameters(**asked)
    except (NameError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"Slurm cannot be asked for {dict(options)} ({reason}): see submitit's AutoExecutor."
        ) from error
    if cluster == "slurm":
        words = ", ".join(f"{key.removeprefix('slurm_')}={value}" for key, value in asked.items())
        report(f"Each job asks Slurm for {words}; --slurm changes that.")
    return executor


def _run_in_job(job: Training, evaluations: Sequence[Evaluation], out: Path, root) -> None:
    lab = Lab(out, root)
    for evaluation in evaluations:
        lab.score(job, evaluation)


def _note(job: Training, out: Path) -> Path:
    return job.folder(out) / "cluster-job.txt"


def _sent_before(unit: Unit, out: Path, queued: Mapping[str, str]) -> str | None:
    """The job that already has this training, if it is still queued."""
    note = _note(unit[0], out)
    number = note.read_text() if note.is_file() else None
    return number if number in queued else None


def _first_queue(report: Callable[[str], None]) -> dict[str, str]:
    """``_queue``, for which a Slurm that starts or is busy is given some time."""
    start, said = time.monotonic(), False
    while True:
        try:
            return _queue()
        except FileNotFoundError:
            raise
        except OSError as error:
            if time.monotonic() - start > START_SECONDS:
                raise OSError(f"{error} It was asked for {START_SECONDS:.0f} s: see sinfo, and try again.") from error
            if not said:
                report(f"{error} Waiting for it.")
            said = True
            time.sleep(POLL["slurm"])


def _queue() -> dict[str, str]:
    """Every job of this user, array jobs one by one: number → state, with Slurm's reason where it waits."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i|%T|%r"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"Slurm does not answer: squeue was silent for {ANSWER_SECONDS:.0f} s.") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(
            "There is no Slurm on this machine (squeue is missing): leave --cluster out."
        ) from error
    except subprocess.CalledProcessError as error:
        raise OSError(f"Slurm does not answer: {error.stderr.strip()}") from error
    rows = [line.strip().split("|") for line in answer.stdout.splitlines() if line.strip()]
    return {number: _waiting(why) if state == "PENDING" else state.lower() for number, state, why in rows}


def _waiting(why: str) -> str:
    more = ": no node can give what they ask for, so stop this, scancel them, and ask for less with --slurm"
    return f"waiting ({why}{more if why in NEVER else ''})"


def _watch(
    units: dict[str, Unit], out: Path, cluster: str, local: Mapping[str, object], report: Callable[[str], None]
) -> Iterator[str]:
    lost, missing, last_report = [], Counter(), ""
    answered = time.monotonic()
    while units:
        for number, (training, evaluations) in list(units.items()):
            if all(is_complete(training, evaluation, out) for evaluation in evaluations):
                del units[number]
                yield training.folder(out).name
        try:
            queued = _queue() if cluster == "slurm" else {n: "running" for n, job in local.items() if not job.done()}
        except OSError as error:  # a controller that restarts: the jobs go on
            if time.monotonic() - answered > SILENT_SECONDS:
                raise RunsFailed(
                    f"{error} It has been silent for {SILENT_SECONDS / 60:.0f} minutes; its jobs go on, and the same "
                    "command waits for them again."
                ) from error
            if str(error) != last_report:
                report(str(error))
            last_report = str(error)
            time.sleep(POLL[cluster])
            continue
        answered = time.monotonic()
        for number in [number for number in units if number not in queued]:
            missing[number] += 1  # its files may come a moment after it has left the queue
            if missing[number] > 3:
                lost.append(units.pop(number)[0].folder(out).name)
        state = Counter(queued[number] for number in units if number in queued)
        if (now := ", ".join(f"{n} {what}" for what, n in sorted(state.items()))) != last_report and now:
            report(f"Jobs: {now}")
            last_report = now
        if units:
            time.sleep(POLL[cluster])
    if lost:
        some = f"{', '.join(lost[:3])}{' …' if len(lost) > 3 else ''}"
        raise RunsFailed(
            f"{len(lost)} jobs ended without their scores ({some}): their output is in {out / 'cluster'}; the same "
            "command tries them again."
        )
