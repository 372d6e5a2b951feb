"""The batch script of an array: what its jobs get, and the sbatch file that asks for it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modpo_hpc.launch.allocation import Allocation, allocate
from modpo_hpc.launch.graph import Work, share_throttle, split
from modpo_hpc.launch.headers import interpreter, sbatch_parameters
from modpo_hpc.launch.profile import Profile
from modpo_hpc.launch.submissions import Learned, Submission
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run

EXCLUDED_SECONDS = 86400.0
"""How long a node that failed what it got is kept away from: somebody mends it, and nobody tells us."""
# A stop signal would end an interpreter that is still starting; Slurm requeues what is preempted and takes no note.
DEAF_UNTIL_PYTHON_LISTENS = """bash -c 'trap "" USR1 USR2; exec "$@"' -"""


@dataclass(frozen=True)
class ResourceChange:
    """What a rerun asks of the jobs beyond the profile: more memory, more time, nodes to keep away from."""

    memory: float = 1.0
    time: float = 1.0
    memory_gb: float | None = None
    minutes: int | None = None
    exclude: tuple[str, ...] = ()

    def apply(self, allocation: Allocation) -> Allocation:
        """``allocation`` with this change."""
        return replace(
            allocation,
            memory_gb=self.memory_gb or allocation.memory_gb * self.memory,
            minutes=self.minutes or max(1, round(allocation.minutes * self.time)),
            exclude=_joined(allocation.exclude, self.exclude),
        )


def allocation_of(
    run: Run, profile: Profile, stage: str, change: ResourceChange | None, learned: Learned | None
) -> Allocation:
    """What a job of ``stage`` gets: the profile, what earlier ones were found to need, and what this command asks."""
    base, learned = allocate(profile, run.study, stage_named(stage)), learned or Learned()
    excluded = learned.exclude if time.time() - learned.at < EXCLUDED_SECONDS else ()
    enough = replace(
        base,
        memory_gb=max(base.memory_gb, learned.memory_gb or 0.0),
        minutes=max(base.minutes, learned.minutes or 0),
        exclude=_joined(base.exclude, excluded),
    )
    return (change or ResourceChange()).apply(enough)


def submission_of(
    stage: str,
    shards: tuple[str, ...],
    allocation: Allocation,
    throttle: int,
    folder: Path,
    comment: str = "modpo:dry-run",
    after: tuple[str, ...] = (),
    cluster: str = "",
    why: str = "",
) -> Submission:
    """The array of ``shards`` before it is handed in."""
    return Submission(
        stage=stage,
        job="",
        shards=shards,
        submitted=time.time(),
        after=after,
        minutes=allocation.minutes,
        memory_gb=allocation.memory_gb,
        gpus=allocation.gpus,
        cpus=allocation.cpus,
        nodes=allocation.nodes,
        folder=str(folder),
        comment=comment,
        cluster=cluster,
        throttle=throttle,
        pack=allocation.pack,
        why=why,
    )


def batch_script(run: Run, profile: Profile, submission: Submission, allocation: Allocation, waits: str | None) -> str:
    """The sbatch file of ``submission``."""
    from submitit.slurm.slurm import _make_sbatch_string

    parameters = sbatch_parameters(allocation, profile, submission, f"{submission.stage}.{run.root.name}", waits)
    known = {key: value for key, value in parameters.items() if value is not None or key == "wckey"}
    command = f"{interpreter(allocation, profile)} -u -m modpo_hpc.launch.task {shlex.quote(submission.folder)}"
    if parameters.get("use_srun", True):
        command = f"{DEAF_UNTIL_PYTHON_LISTENS} {command}"
    count = submission.elements if submission.elements > 1 else None
    text: str = _make_sbatch_string(command, submission.folder, map_count=count, **known)
    return text


def sbatch_header(
    run: Run,
    profile: Profile,
    work: Work,
    array_size: int,
    change: ResourceChange | None = None,
    learned: Learned | None = None,
) -> list[str]:
    """The sbatch files that ``work`` would be handed in with, one a block; ids of jobs to come are named by stage."""
    allocation = allocation_of(run, profile, work.stage, change, learned)
    jobs = ":".join([*work.after_jobs, *(f"<{stage}>" for stage in work.after_stages)])
    ended = ":".join(work.after_ended)
    waits = ",".join(filter(None, (f"afterok:{jobs}" if jobs else "", f"afterany:{ended}" if ended else "")))
    blocks, folder = split(work.shards, array_size * allocation.pack), job_folder(run, work.stage, "dry-run")
    return [
        batch_script(
            run, profile, submission_of(work.stage, block, allocation, throttle, folder), allocation, waits or None
        )
        for block, throttle in zip(blocks, share_throttle(allocation.throttle, len(blocks)), strict=True)
    ]


def job_folder(run: Run, stage: str, token: str) -> Path:
    """Where the batch script, the list of its shards and Slurm's own output of one array are."""
    return run.logs / "slurm" / f"{stage}.{token}"


def _joined(excluded: str | None, more: Sequence[str]) -> str | None:
    return ",".join(dict.fromkeys([*(excluded.split(",") if excluded else []), *more])) or None
