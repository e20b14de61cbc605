"""Runs on a Slurm cluster, through submitit: one job for each run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..loading import load_vlm
from .runner import Evaluation, RunConfig, Runner


@dataclass
class Job:
    """A run with all its evaluations; a job that Slurm ends at its time limit is queued again."""

    config: RunConfig
    evaluations: list[Evaluation]
    out: Path
    root: str | Path | None

    def score(self, runner: Runner) -> None:
        for evaluation in self.evaluations:
            runner.score(self.config, evaluation)

    def __call__(self) -> None:
        self.score(Runner(self.out, self.root))

    def __submitit_checkpoint__(self):
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)  # finished evaluations are found, and a long training goes on


def on_cluster(
    jobs: Sequence[Job], cluster: str, options: Mapping[str, object]
) -> Iterator[tuple[Job, Exception | None]]:
    """Send jobs to a cluster, and yield each when it ends, with its error.

    A job that an earlier command sent and that is still queued is waited for, not sent again.

    Args:
        cluster: ``"slurm"``, or ``"local"`` for processes on this machine.
        options: what a job asks for, over the defaults, as submitit's ``AutoExecutor.update_parameters`` names it.
    """
    import submitit

    try:
        executor = submitit.AutoExecutor(jobs[0].out.absolute() / "cluster", cluster)
    except RuntimeError as error:  # this machine has no Slurm
        raise ValueError(f"{error} Leave --cluster out, or run the command on a login node.") from error
    asked = {"timeout_min": 24 * 60, "cpus_per_task": 4}
    if cluster == "slurm":
        asked["gpus_per_node"] = int(any(job.config.is_real_size for job in jobs))  # the login node may have none
        for model in {model for job in jobs for model in (job.config.student, *job.config.teachers)}:
            load_vlm(*model, device="cpu")  # fetches the weights: jobs often have no network
    try:
        executor.update_parameters(**{**asked, **options})
    except (NameError, AssertionError) as error:
        raise ValueError(f"submitit does not take these options: {str(error).splitlines()[0]}") from error
    notes = [job.config.folder(job.out) / "cluster-job.txt" for job in jobs]
    handles = [_queued(executor, note) for note in notes]
    with executor.batch():  # one array, of which Slurm runs so many at once
        handles = [handle or executor.submit(job) for handle, job in zip(handles, jobs)]
    for handle, note in zip(handles, notes):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(handle.job_id)
    job_of = {handle.job_id: job for handle, job in zip(handles, jobs)}
    for handle in submitit.helpers.as_completed(handles, poll_frequency=5 if cluster == "slurm" else 0.5):
        yield job_of[handle.job_id], handle.exception()


def _queued(executor, note: Path):
    """The job that an earlier command noted, if it is still queued."""
    if not note.is_file():
        return None
    handle = executor._executor.job_class(executor.folder, note.read_text())
    return handle if handle.state in ("PENDING", "RUNNING", "REQUEUED") else None
