"""Hand shards to Slurm, one array a stage. The batch script is submitit's; what runs in it is ``launch/task.py``."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modpo_hpc.core.atomic import atomic_file
from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.launch import cluster, commands, squeue
from modpo_hpc.launch.graph import Work, dependency, share_throttle, split
from modpo_hpc.launch.headers import interpreter, sbatch_parameters
from modpo_hpc.launch.profile import Allocation, Profile, allocate
from modpo_hpc.launch.submissions import (
    Learned,
    Submission,
    read_journal,
    record_abandoned,
    record_intent,
    record_learned,
    record_submission,
)
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run

EXCLUDED_SECONDS = 86400.0
"""How long a node that failed what it got is kept away from: somebody mends it, and nobody tells us."""
# A stop signal would end an interpreter that is still starting; Slurm requeues what is preempted and takes no note.
DEAF_UNTIL_PYTHON_LISTENS = """bash -c 'trap "" USR1 USR2; exec "$@"' -"""
YOURS = "Yours: sacctmgr show associations user=$USER format=account,partition,qos"
# sbatch names the limit in a line of its own, above a sentence that is the same for all of them.
NAMED_LIMIT = re.compile(r"\b(?:Assoc|QOS)\w*Limit\b|\b(?:Assoc|QOS)(?:Max|Grp|Min)\w+")
ANY_LIMIT = "Job violates accounting/QOS policy"


class SubmitLimit(IncompleteError):
    """The cluster takes no more jobs of this user now."""


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
        return replace(
            allocation,
            memory_gb=self.memory_gb or allocation.memory_gb * self.memory,
            minutes=self.minutes or max(1, round(allocation.minutes * self.time)),
            exclude=_joined(allocation.exclude, self.exclude),
        )


def with_learned(allocation: Allocation, learned: Learned | None, now: float) -> Allocation:
    """``allocation`` with what earlier jobs of its stage were found to need, where that is more."""
    if learned is None:
        return allocation
    return replace(
        allocation,
        memory_gb=max(allocation.memory_gb, learned.memory_gb or 0.0),
        minutes=max(allocation.minutes, learned.minutes or 0),
        exclude=_joined(allocation.exclude, learned.exclude if now - learned.at < EXCLUDED_SECONDS else ()),
    )


class Submitter:
    """Hands the work of one run to Slurm; each call of sbatch is written down before and after."""

    def __init__(
        self,
        run: Run,
        profile: Profile,
        on_submit: Callable[[Submission], None] = lambda _: None,
        facts: cluster.ClusterFacts | None = None,
        why: Mapping[str, str] | None = None,
    ) -> None:
        self.run, self.profile, self._on_submit, self._why = run, profile, on_submit, why or {}
        self._facts = facts or cluster.ask_facts(wait=commands.WAIT_SECONDS)
        self._array_size = min(profile.limits.array_size, self._facts.max_array_size)
        self._learned = read_journal(run).learned

    def allocation(self, stage: str, change: Change | None = None) -> Allocation:
        """What a job of ``stage`` gets: the profile, what was learned, and what this command asks."""
        allocation = allocate(self.profile, self.run.study, stage_named(stage))
        return (change or Change()).apply(with_learned(allocation, self._learned.get(stage), time.time()))

    def submit(
        self,
        plan: Sequence[Work],
        sizes: Mapping[str, int],
        changes: Mapping[str, Change] | None = None,
        make_room: Callable[[], bool] = lambda: False,
    ) -> list[Submission]:
        """Hand in ``plan`` in its order.

        Where the cluster takes no more jobs, ``make_room`` is asked once to take out what can never run; then arrays
        are halved until one fits.

        Args:
            sizes: array -> number of its elements, of those that are queued already.

        Raises:
            SubmitLimit: the cluster takes no more; what was handed in stays, and is what its ``submissions`` says.
        """
        new: dict[str, list[Submission]] = {}
        for work in plan:
            change = (changes or {}).get(work.stage)
            allocation = self.allocation(work.stage, change)
            known = {**sizes, **{one.job: one.elements for some in new.values() for one in some}}
            waits = dependency([*work.after_jobs, *_jobs_of(work.after_shards, new)], known)
            if work.after_ended:
                waits = ",".join(filter(None, (waits, dependency(work.after_ended, known, "afterany"))))
            if change is not None and change != Change():
                # Before the first job: a limit may leave the others to a later command, which must not ask less.
                record_learned(self.run, work.stage, self._lesson(work.stage, change, allocation))
            blocks = split(work.shards, self._array_size * allocation.pack)
            throttles = share_throttle(throttle_of(work, plan, allocation), len(blocks))
            for block, throttle in zip(blocks, throttles, strict=True):
                for part in self._hand_in(work, block, allocation, throttle, waits, make_room):
                    new.setdefault(work.stage, []).append(part)
        return [one for submissions in new.values() for one in submissions]

    def _lesson(self, stage: str, change: Change, allocation: Allocation) -> Learned:
        """What later jobs of ``stage`` are to get, too: what was asked now, else what was asked before."""
        before = self._learned.get(stage, Learned())
        more_memory = change.memory_gb or change.memory != 1.0
        more_time = change.minutes or change.time != 1.0
        return Learned(
            memory_gb=allocation.memory_gb if more_memory else before.memory_gb,
            minutes=allocation.minutes if more_time else before.minutes,
            exclude=change.exclude or before.exclude,
            at=time.time() if change.exclude else before.at,
        )

    def _hand_in(
        self,
        work: Work,
        block: tuple[str, ...],
        allocation: Allocation,
        throttle: int,
        waits: str | None,
        make_room: Callable[[], bool],
    ) -> list[Submission]:
        left, size, done = list(block), len(block), list[Submission]()
        while left:
            part = tuple(left[:size])
            try:
                done.append(self._submit_block(work, part, allocation, throttle, waits))
            except SubmitLimit:
                if make_room():
                    continue
                if size <= allocation.pack:
                    raise
                size = max(allocation.pack, size // 2)
                continue
            left = left[size:]
        return done

    def _submit_block(
        self, work: Work, block: tuple[str, ...], allocation: Allocation, throttle: int, waits: str | None
    ) -> Submission:
        token = uuid.uuid4().hex[:10]
        folder = job_folder(self.run, work.stage, token)
        self.run.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(parents=True, mode=0o700)
        after = re.findall(r"\d+(?:_\d+)?", waits or "")
        submission = Submission(
            stage=work.stage,
            job="",
            shards=block,
            submitted=time.time(),
            after=tuple(after),
            minutes=allocation.minutes,
            memory_gb=allocation.memory_gb,
            gpus=allocation.gpus,
            cpus=allocation.cpus,
            nodes=allocation.nodes,
            folder=str(folder),
            comment=f"{comment_prefix(self.run)}{work.stage}:{token}",
            cluster=self._facts.name,
            throttle=throttle,
            pack=allocation.pack,
            why=self._why.get(work.stage, ""),
        )
        script = folder / "batch.sh"
        with atomic_file(folder / "tasks.json", "w") as stream:
            json.dump(_tasks(self.run, work, submission), stream)
        with atomic_file(script, "w") as stream:
            stream.write(_script(self.run, self.profile, submission, allocation, waits))
        record_intent(self.run, submission)
        try:
            job = _sbatch(script, submission.comment)
        except commands.SlurmSilent:
            raise  # the intent stays open: the next command looks whether Slurm took the job after all
        except commands.SlurmError as error:
            record_abandoned(self.run, submission.comment)
            shutil.rmtree(folder, ignore_errors=True)  # refused for certain: nothing will ask for it
            raise refusal(str(error), work.stage, allocation) from error
        submission = replace(submission, job=job)
        record_submission(self.run, submission)
        self._on_submit(submission)
        return submission


def comment_prefix(run: Run) -> str:
    """What the comment of every job of ``run`` begins with."""
    return f"modpo:{run.provenance.get('id', '')}:"


def withdraw(submission: Submission) -> None:
    """Have jobs of ``submission`` that come up all the same end at once."""
    with suppress(FileNotFoundError):  # without its folder a job ends by itself
        (Path(submission.folder) / "withdrawn").touch()


def _sbatch(script: Path, comment: str) -> str:
    """Slurm's id of the job of ``script``. Where sbatch hears no answer, the queue tells whether the job is there."""
    waited, pause = 0.0, 2.0
    while True:
        try:
            return commands.call("sbatch", "--parsable", str(script)).strip().partition(";")[0]
        except commands.SlurmSilent:
            if waited >= commands.WAIT_SECONDS:
                raise
        # Not again before the queue has been seen: the job may be there already.
        lines = squeue.ask_queue_of_user(commands.WAIT_SECONDS)
        if taken := [line for line in lines if line.comment == comment]:
            return taken[0].job.partition("_")[0]
        time.sleep(pause)
        waited, pause = waited + pause, min(commands.LONGEST_PAUSE, 2 * pause)


def _tasks(run: Run, work: Work, submission: Submission) -> dict[str, Any]:
    shards, pack = submission.shards, submission.pack
    groups = [shards[start : start + pack] for start in range(0, len(shards), pack)]
    return {"run": str(run.root), "stage": work.stage, "tasks": groups, "again": sorted(set(work.again) & set(shards))}


def _script(run: Run, profile: Profile, submission: Submission, allocation: Allocation, waits: str | None) -> str:
    """The sbatch file of ``submission``."""
    from submitit.slurm.slurm import _make_sbatch_string

    parameters = sbatch_parameters(
        allocation,
        profile,
        job_name=f"{submission.stage}.{run.root.name}",
        comment=submission.comment,
        dependency=waits,
        throttle=submission.throttle,
        folder_for_jobs=submission.folder,
    )
    known = {key: value for key, value in parameters.items() if value is not None or key == "wckey"}
    command = f"{interpreter(allocation, profile)} -u -m modpo_hpc.launch.task {shlex.quote(submission.folder)}"
    if parameters.get("use_srun", True):
        command = f"{DEAF_UNTIL_PYTHON_LISTENS} {command}"
    count = submission.elements if submission.elements > 1 else None
    text: str = _make_sbatch_string(command, submission.folder, map_count=count, **known)
    return text


def throttle_of(work: Work, plan: Sequence[Work], allocation: Allocation) -> int:
    """What the shards of ``work`` may run at once, so that all of its stage in ``plan`` keep to the throttle."""
    together = sum(len(one.shards) for one in plan if one.stage == work.stage)
    return max(1, math.ceil(allocation.throttle * len(work.shards) / max(1, together)))


def sbatch_header(
    run: Run,
    profile: Profile,
    work: Work,
    array_size: int,
    change: Change | None = None,
    learned: Learned | None = None,
) -> list[str]:
    """The sbatch files that ``work`` would be handed in with, one a block; ids of jobs to come are named by stage."""
    allocation = allocate(profile, run.study, stage_named(work.stage))
    allocation = (change or Change()).apply(with_learned(allocation, learned, time.time()))
    jobs = ":".join([*work.after_jobs, *(f"<{stage}>" for stage in work.after_stages)])
    ended = ":".join(work.after_ended)
    waits = ",".join(filter(None, (f"afterok:{jobs}" if jobs else "", f"afterany:{ended}" if ended else "")))
    blocks = split(work.shards, array_size * allocation.pack)
    texts = []
    for block, throttle in zip(blocks, share_throttle(allocation.throttle, len(blocks)), strict=True):
        one = Submission(
            stage=work.stage,
            job="",
            shards=block,
            submitted=0.0,
            after=(),
            minutes=allocation.minutes,
            memory_gb=allocation.memory_gb,
            gpus=allocation.gpus,
            cpus=allocation.cpus,
            nodes=allocation.nodes,
            folder=str(job_folder(run, work.stage, "dry-run")),
            comment="modpo:dry-run",
            throttle=throttle,
            pack=allocation.pack,
        )
        texts.append(_script(run, profile, one, allocation, waits or None))
    return texts


def check_with_slurm(
    run: Run, profile: Profile, plan: Sequence[Work], changes: Mapping[str, Change] | None = None
) -> None:
    """Let Slurm judge every header before anything is queued.

    Raises:
        InputError: Slurm would refuse a job; says which field and what to do.
    """
    known, learned = cluster.partitions(), read_journal(run).learned
    for work in plan:
        change = (changes or {}).get(work.stage)
        allocation = allocate(profile, run.study, stage_named(work.stage))
        allocation = (change or Change()).apply(with_learned(allocation, learned.get(work.stage), time.time()))
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
        alone = replace(work, shards=work.shards[:1], after_jobs=(), after_shards=(), after_ended=())
        text = sbatch_header(run, profile, alone, 1, change, learned.get(work.stage))[0]
        try:
            commands.call("sbatch", "--test-only", wait=commands.WAIT_SECONDS, text_in=text)
        except commands.SlurmSilent:
            raise
        except commands.SlurmError as error:
            refused = refusal(str(error), work.stage, allocation)
            if not isinstance(refused, SubmitLimit):
                raise refused from error


def refusal(words: str, stage: str, allocation: Allocation) -> InputError | SubmitLimit:
    """What Slurm's refusal of a job means, and what to do. ``words`` are sbatch's."""
    limit = NAMED_LIMIT.search(words)
    name = limit[0] if limit else ""
    if "Submit" in name or (ANY_LIMIT in words and not name):
        return SubmitLimit(f"the cluster takes no more jobs of yours now ({name or 'a limit'}); next is stage {stage}")
    size = f"{allocation.cpus} CPUs, {allocation.memory_gb:g} GB, {allocation.gpus} GPUs"
    if name:
        field = "minutes" if "Wall" in name else "cpus, memory_gb, gpus, nodes"
        return InputError(
            f"a limit of your account or qos ({name}) is below what a job of stage {stage} asks",
            field=field,
            value=f"{allocation.minutes} min, {size}",
            remedy=f"Ask for less in the profile. {YOURS},maxwall,maxtrespernode",
        )
    reason = words.strip().splitlines()[-1].removeprefix("sbatch: ").removeprefix("error: ") if words.strip() else "?"
    lower = words.lower()
    causes: tuple[tuple[str, str, object, str], ...] = (
        ("account", "account", allocation.account, f"Give an account of yours in the profile. {YOURS}"),
        ("qos", "qos", allocation.qos, f"Give a qos that your account may use. {YOURS}"),
        ("partition", "partition", allocation.partition, "Name one of the partitions that sinfo lists."),
        ("time limit", "minutes", allocation.minutes, "Lower minutes, or take another partition: sinfo -o '%R %l'."),
        ("node configuration", "cpus, memory_gb, gpus", size, "No node has this much; see sinfo -N -o '%N %c %m %G'."),
        ("gres", "gres", allocation.gres or allocation.gpus, "See sinfo -o '%R %G' for what there is."),
        ("feature", "constraint", allocation.constraint, "See sinfo -o '%R %f' for what there is."),
        ("memory", "memory_gb", allocation.memory_gb, "Lower memory_gb; see sinfo -N -o '%N %m'."),
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
    """Where the batch script, the list of its shards and Slurm's own output of one array are."""
    return run.logs / "slurm" / f"{stage}.{token}"


def _jobs_of(shards: Sequence[tuple[str, str]], new: Mapping[str, Sequence[Submission]]) -> list[str]:
    """The jobs of ``shards``, each a stage and a shard, among the ``new`` submissions."""
    jobs = {(one.stage, shard): job for some in new.values() for one in some for shard, job in one.jobs().items()}
    return list(dict.fromkeys(jobs[one] for one in shards))


def _joined(excluded: str | None, more: Sequence[str]) -> str | None:
    return ",".join(dict.fromkeys([*(excluded.split(",") if excluded else []), *more])) or None
