"""Hand shards to Slurm through submitit, one array a stage."""

from __future__ import annotations

import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modpo_hpc.errors import InputError
from modpo_hpc.launch import cluster, commands, squeue
from modpo_hpc.launch.graph import Work, dependency, share_throttle, split
from modpo_hpc.launch.headers import interpreter, sbatch_parameters
from modpo_hpc.launch.profile import Allocation, Profile, allocate
from modpo_hpc.launch.submissions import Submission, record_submission
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run

SUBMIT_ATTEMPTS = 6
LONGEST_PAUSE = 60.0
YOURS = "Yours: sacctmgr show associations user=$USER format=account,partition,qos"


@dataclass(frozen=True)
class Change:
    """What a rerun asks of the jobs beyond the profile: more memory, more time, nodes to keep away from."""

    memory: float = 1.0
    time: float = 1.0
    memory_gb: float | None = None
    minutes: int | None = None
    exclude: tuple[str, ...] = ()

    def apply(self, allocation: Allocation) -> Allocation:
        """``allocation`` with this change."""
        exclude = [*([allocation.exclude] if allocation.exclude else []), *self.exclude]
        return replace(
            allocation,
            memory_gb=self.memory_gb or allocation.memory_gb * self.memory,
            minutes=self.minutes or max(1, round(allocation.minutes * self.time)),
            exclude=",".join(exclude) or None,
        )


class Submitter:
    """Hands the work of one run to Slurm and writes down each job as it gets its id."""

    def __init__(self, run: Run, profile: Profile, on_submit: Callable[[Submission], None] = lambda _: None) -> None:
        self.run, self.profile, self._on_submit = run, profile, on_submit
        self._array_size = min(profile.limits.array_size, cluster.max_array_size())

    def submit(
        self, plan: Sequence[Work], sizes: Mapping[str, int], changes: Mapping[str, Change] | None = None
    ) -> list[Submission]:
        """Hand in ``plan`` in its order. ``sizes`` gives the number of elements of arrays that are queued already."""
        new: dict[str, list[Submission]] = {}
        for work in plan:
            allocation = (
                (changes or {})
                .get(work.stage, Change())
                .apply(allocate(self.profile, self.run.study, stage_named(work.stage)))
            )
            before = [one for stage in work.after_stages for one in new.get(stage, [])]
            known = {**sizes, **{one.job: len(one.shards) for one in before}}
            waits = dependency([*work.after_jobs, *(job for one in before for job in one.jobs().values())], known)
            blocks = split(work.shards, self._array_size)
            for block, throttle in zip(blocks, share_throttle(allocation.throttle, len(blocks)), strict=True):
                submission = self._submit_block(work.stage, block, allocation, throttle, waits)
                new.setdefault(work.stage, []).append(submission)
                record_submission(self.run, submission)
                self._on_submit(submission)
        return [one for submissions in new.values() for one in submissions]

    def _submit_block(
        self, stage: str, block: tuple[str, ...], allocation: Allocation, throttle: int, waits: str | None
    ) -> Submission:
        from submitit.core.utils import FailedJobError
        from submitit.slurm.slurm import SlurmExecutor

        from modpo_hpc.launch.task import run_shard_in_job

        token = uuid.uuid4().hex[:10]
        folder = job_folder(self.run, stage, token)
        self.run.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(parents=True, mode=0o700)
        executor = SlurmExecutor(folder, python=interpreter(allocation, self.profile))
        comment = f"modpo:{self.run.provenance.get('id', '')}:{stage}:{token}"
        executor.update_parameters(
            **_parameters(self.run, self.profile, stage, allocation, throttle, waits, comment, folder)
        )
        with clean_process_environment():
            for attempt in range(SUBMIT_ATTEMPTS):
                try:
                    runs, stages = [str(self.run.root)] * len(block), [stage] * len(block)
                    jobs = executor.map_array(run_shard_in_job, runs, stages, list(block))
                    break
                except FailedJobError as error:
                    _forget_half_submitted(comment, folder)
                    if not commands.is_passing(str(error)) or attempt + 1 == SUBMIT_ATTEMPTS:
                        raise refusal(str(error), stage, allocation) from error
                    time.sleep(min(LONGEST_PAUSE, 2**attempt))
        return Submission(
            stage=stage,
            job=jobs[0].job_id.partition("_")[0],
            shards=block,
            submitted=time.time(),
            after=tuple(waits.removeprefix("afterok:").split(":")) if waits else (),
            minutes=allocation.minutes,
            memory_gb=allocation.memory_gb,
            gpus=allocation.gpus,
            cpus=allocation.cpus,
            nodes=allocation.nodes,
            folder=str(folder),
        )


def sbatch_header(run: Run, profile: Profile, work: Work, array_size: int, change: Change | None = None) -> list[str]:
    """The sbatch files that ``work`` would be handed in with, one a block; ids of jobs to come are named by stage."""
    from submitit.slurm.slurm import _make_sbatch_string

    allocation = (change or Change()).apply(allocate(profile, run.study, stage_named(work.stage)))
    waits = ":".join([*work.after_jobs, *(f"<{stage}>" for stage in work.after_stages)])
    blocks = split(work.shards, array_size)
    texts = []
    for block, throttle in zip(blocks, share_throttle(allocation.throttle, len(blocks)), strict=True):
        folder = job_folder(run, work.stage, "dry-run")
        parameters = _parameters(
            run,
            profile,
            work.stage,
            allocation,
            throttle,
            f"afterok:{waits}" if waits else None,
            "modpo:dry-run",
            folder,
        )
        command = f"{interpreter(allocation, profile)} -u -m submitit.core._submit {folder}"
        texts.append(
            _make_sbatch_string(command, folder, map_count=len(block) if len(block) > 1 else None, **parameters)
        )
    return texts


def check_with_slurm(
    run: Run, profile: Profile, plan: Sequence[Work], changes: Mapping[str, Change] | None = None
) -> None:
    """Let Slurm judge every header before anything is queued.

    Raises:
        InputError: Slurm would refuse a job; says which field and what to do.
    """
    known = cluster.partitions()
    for work in plan:
        change = (changes or {}).get(work.stage)
        allocation = (change or Change()).apply(allocate(profile, run.study, stage_named(work.stage)))
        if allocation.partition and (absent := [one for one in allocation.partition.split(",") if one not in known]):
            raise InputError(
                "this cluster has no such partition",
                field=f"partition (of stage {work.stage})",
                value=absent[0],
                remedy=f"Its partitions: {', '.join(known)}. Correct the profile.",
            )
        longest = max((known[one] for one in (allocation.partition or "").split(",") if one in known), default=math.inf)
        if allocation.minutes > longest:
            # Slurm itself would take such a job, and let it wait for ever.
            raise InputError(
                f"the time limit is longer than partition {allocation.partition} allows ({longest:.0f} min)",
                field=f"minutes (of stage {work.stage})",
                value=allocation.minutes,
                remedy="Lower it (a shard at its limit is requeued and resumes), or take another partition.",
            )
        alone = replace(work, shards=work.shards[:1], after_jobs=(), after_stages=())
        text = sbatch_header(run, profile, alone, 1, change)[0]
        try:
            commands.call("sbatch", "--test-only", attempts=4, text_in=text)
        except commands.SlurmError as error:
            raise refusal(str(error), work.stage, allocation) from error


def refusal(words: str, stage: str, allocation: Allocation) -> InputError:
    """What Slurm's refusal of a job means, and what to do. ``words`` are sbatch's."""
    reason = words.strip().splitlines()[-1].removeprefix("sbatch: ").removeprefix("error: ") if words.strip() else "?"
    lower = words.lower()
    size = f"{allocation.cpus} CPUs, {allocation.memory_gb:g} GB, {allocation.gpus} GPUs"
    causes: tuple[tuple[str, str, object, str], ...] = (
        ("account", "account", allocation.account, f"Give an account of yours in the profile. {YOURS}"),
        ("qos", "qos", allocation.qos, f"Give a qos that your account may use. {YOURS}"),
        ("partition", "partition", allocation.partition, "Name one of the partitions that sinfo lists."),
        ("time limit", "minutes", allocation.minutes, "Lower minutes, or take another partition: sinfo -o '%R %l'."),
        ("node configuration", "cpus, memory_gb, gpus", size, "No node has this much; see sinfo -N -o '%N %c %m %G'."),
        ("gres", "gres", allocation.gres or allocation.gpus, "See sinfo -o '%R %G' for what there is."),
        ("feature", "constraint", allocation.constraint, "See sinfo -o '%R %f' for what there is."),
        ("memory", "memory_gb", allocation.memory_gb, "Lower memory_gb; see sinfo -N -o '%N %m'."),
        ("limit", "limits", None, "What is queued stays queued. Submit again later: only the missing is handed in."),
    )
    for word, field, value, remedy in causes:
        if word in lower:
            return InputError(
                f"Slurm refuses the jobs of stage {stage}: {reason}", field=field, value=value, remedy=remedy
            )
    return InputError(
        f"Slurm refuses the jobs of stage {stage}: {reason}",
        remedy="What is queued stays queued. When it is mended, submit again: only what is missing is handed in.",
    )


def job_folder(run: Run, stage: str, token: str) -> Path:
    """Where the batch script, the pickles and Slurm's own output of one array are."""
    return run.logs / "slurm" / f"{stage}.{token}"


@contextmanager
def clean_process_environment() -> Iterator[None]:
    """This process without leaked SLURM_* variables, and without submitit's chatter, for as long as the block runs."""
    before = dict(os.environ)
    level = logging.getLogger("submitit").level
    logging.getLogger("submitit").setLevel(logging.ERROR)
    os.environ.clear()
    os.environ.update(commands.clean_environment(before))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        logging.getLogger("submitit").setLevel(level)


def _parameters(
    run: Run,
    profile: Profile,
    stage: str,
    allocation: Allocation,
    throttle: int,
    waits: str | None,
    comment: str,
    folder: Path,
) -> dict[str, Any]:
    parameters = sbatch_parameters(
        allocation,
        profile,
        job_name=f"{stage}.{run.root.name}",
        comment=comment,
        dependency=waits,
        throttle=throttle,
        folder_for_jobs=str(folder),
    )
    return {key: value for key, value in parameters.items() if value is not None or key == "wckey"}


def _forget_half_submitted(comment: str, folder: Path) -> None:
    """Cancel jobs that Slurm took although sbatch heard no answer, and drop the pickles of the failed call."""
    try:
        ghosts = sorted({line.job.partition("_")[0] for line in squeue.ask_queue_of_user() if line.comment == comment})
        if ghosts:
            cluster.cancel(ghosts)
    except commands.SlurmError:
        pass  # the controller is still away; a ghost finds no pickle and ends by itself
    for pickle in folder.glob("*.pkl"):
        pickle.unlink()
