"""Hand shards to Slurm, one array a stage. The batch script is submitit's; what runs in it is ``launch/task.py``."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from modpo_hpc.core.atomic import write_text
from modpo_hpc.errors import InputError
from modpo_hpc.launch import cluster, commands, squeue
from modpo_hpc.launch.allocation import Allocation
from modpo_hpc.launch.batch_scripts import (
    ResourceChange,
    allocation_of,
    batch_script,
    submission_of,
)
from modpo_hpc.launch.fields import array_of
from modpo_hpc.launch.graph import Work, dependency, share_throttle, split
from modpo_hpc.launch.profile import Profile
from modpo_hpc.launch.refusals import NO_NODE, SubmitLimit, refusal
from modpo_hpc.launch.submissions import (
    Learned,
    Submission,
    read_journal,
    record_abandoned,
    record_learned,
    record_submission,
)
from modpo_hpc.run import Run


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

    def submit(
        self,
        plan: Sequence[Work],
        sizes: Mapping[str, int],
        changes: Mapping[str, ResourceChange] | None = None,
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
        new: list[Submission] = []
        for work in plan:
            change = (changes or {}).get(work.stage)
            allocation = allocation_of(self.run, self.profile, work.stage, change, self._learned.get(work.stage))
            known = {**sizes, **{one.job: one.elements for one in new}}
            held = {(one.stage, shard): job for one in new for shard, job in one.jobs().items()}
            before = dict.fromkeys(held[shard] for shard in work.after_shards)
            waits = dependency([*work.after_jobs, *before], known)
            if work.after_ended:
                waits = ",".join(filter(None, (waits, dependency(work.after_ended, known, "afterany"))))
            if change is not None and change != ResourceChange():
                # Before the first job: a limit may leave the others to a later command, which must not ask less.
                record_learned(self.run, work.stage, self._lesson(work.stage, change, allocation))
            blocks = split(work.shards, self._array_size * allocation.pack)
            throttles = share_throttle(throttle_of(work, plan, allocation), len(blocks))
            for block, throttle in zip(blocks, throttles, strict=True):
                new += self._hand_in(work, block, allocation, throttle, waits, make_room)
        return new

    def _lesson(self, stage: str, change: ResourceChange, allocation: Allocation) -> Learned:
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
        left, size, done = block, len(block), list[Submission]()
        while left:
            try:
                done.append(self._submit_block(work, left[:size], allocation, throttle, waits))
                left = left[size:]
            except SubmitLimit:
                if not make_room():
                    if size <= allocation.pack:
                        raise
                    size = max(allocation.pack, size // 2)
        return done

    def _submit_block(
        self, work: Work, block: tuple[str, ...], allocation: Allocation, throttle: int, waits: str | None
    ) -> Submission:
        token = uuid.uuid4().hex[:10]
        submission = replace(
            submission_of(self.run, work.stage, block, allocation, throttle, token),
            comment=f"{comment_prefix(self.run)}{work.stage}:{token}",
            after=tuple(re.findall(r"\d+(?:_\d+)?", waits or "")),
            cluster=self._facts.name,
            why=self._why.get(work.stage, ""),
        )
        folder, pack = Path(submission.folder), allocation.pack
        script = folder / "batch.sh"
        self.run.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(parents=True, mode=0o700)
        tasks = {
            "run": str(self.run.root),
            "stage": work.stage,
            "tasks": [block[start : start + pack] for start in range(0, len(block), pack)],
            "again": sorted(set(work.again) & set(block)),
            "resident": allocation.resident,
        }
        write_text(folder / "tasks.json", json.dumps(tasks))
        write_text(script, batch_script(self.run, self.profile, submission, allocation, waits))
        record_submission(self.run, submission)
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
            return array_of(taken[0].job)
        time.sleep(pause)
        waited, pause = waited + pause, min(commands.LONGEST_PAUSE, 2 * pause)


def throttle_of(work: Work, plan: Sequence[Work], allocation: Allocation) -> int:
    """What the shards of ``work`` may run at once, so that all of its stage in ``plan`` keep to the throttle."""
    together = sum(len(one.shards) for one in plan if one.stage == work.stage)
    return max(1, math.ceil(allocation.throttle * len(work.shards) / max(1, together)))


def check_with_slurm(
    run: Run, profile: Profile, plan: Sequence[Work], changes: Mapping[str, ResourceChange] | None = None
) -> None:
    """Let Slurm judge every header before anything is queued.

    Raises:
        InputError: Slurm would refuse a job; says which field and what to do.
    """
    known, learned = cluster.partitions(), read_journal(run).learned
    waiting: dict[str, list[str]] = {}
    for work in plan:
        change = (changes or {}).get(work.stage)
        allocation = allocation_of(run, profile, work.stage, change, learned.get(work.stage))
        named = allocation.partition.split(",") if allocation.partition else []
        if absent := [one for one in named if one not in known]:
            raise InputError(
                "this cluster has no such partition",
                field=f"partition (of stage {work.stage})",
                value=absent[0],
                remedy=f"Its partitions: {', '.join(known)}. Correct the profile.",
            )
        longest = max((known[one] for one in named), default=math.inf)
        if allocation.minutes > longest:
            # Slurm itself would take such a job, and let it wait for ever.
            raise InputError(
                f"the time limit is longer than partition {allocation.partition} allows ({longest:.0f} min)",
                field=f"minutes (of stage {work.stage})",
                value=allocation.minutes,
                remedy="Lower it (a shard at its limit is requeued and resumes), or take another partition.",
            )
        draft = submission_of(run, work.stage, work.shards[:1], allocation, allocation.throttle)
        text = batch_script(run, profile, draft, allocation, None)
        try:
            commands.call("sbatch", "--test-only", wait=commands.WAIT_SECONDS, text_in=text)
        except commands.SlurmSilent:
            raise
        except commands.SlurmError as error:
            refused = refusal(str(error), work.stage, allocation)
            if isinstance(refused, SubmitLimit):
                continue
            size = (allocation.cpus, allocation.memory_gb, allocation.gpus)
            away = cluster.nodes_away(allocation.partition, *size) if NO_NODE in str(error).lower() else []
            if not away:
                raise refused from error
            waiting[work.stage] = away
    if waiting:
        nodes = list(dict.fromkeys(node for away in waiting.values() for node in away))
        more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
        print(
            f"The nodes that could take {', '.join(waiting)} are not up now ({', '.join(nodes[:3])}{more}; "
            "why: sinfo -R). Their jobs wait for them.",
            file=sys.stderr,
        )
