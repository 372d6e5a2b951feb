"""Changes of a run's queue as transactions: under the lock, from a fresh snapshot, written down before and after.

The order is what makes it safe to die anywhere: new jobs come before the old ones go, and results stay until others
replace them. The next transaction begins by putting right what one that died has left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from modpo_hpc.launch import cluster, commands, repair, squeue
from modpo_hpc.launch.batch_scripts import ResourceChange
from modpo_hpc.launch.fields import array_of
from modpo_hpc.launch.profile import Profile
from modpo_hpc.launch.refusals import SubmitLimit
from modpo_hpc.launch.slurm import Submitter, comment_prefix, withdraw
from modpo_hpc.launch.state import Snapshot, take_snapshot
from modpo_hpc.launch.submissions import (
    Submission,
    keep_profile,
    locked,
    read_journal,
    record_abandoned,
    record_cancel,
    record_submission,
    told_of_a_full_disk,
)
from modpo_hpc.run import Run


@dataclass
class Outcome:
    """What a transaction has done. ``held_back`` says why not all of it could be handed in, if so."""

    submitted: list[Submission] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    held_back: str = ""


@contextmanager
def transaction(run: Run, wait: float | None = None) -> Iterator[Snapshot]:
    """The run's queue, to be changed: a snapshot that stays true as long as the block runs, but for Slurm's own doing.

    A controller that is away is waited for, ``wait`` seconds or the usual ones.

    Raises:
        SlurmSilent: the queue cannot be seen; nothing was changed.
        InputError: another command changes it right now, or the journal cannot be read.
    """
    wait = commands.WAIT_SECONDS if wait is None else wait
    commands.require_slurm(wait)
    with locked(run), told_of_a_full_disk(run.root):
        recover(run, wait)
        snapshot = take_snapshot(run, wait)
        if snapshot.silent:
            raise commands.SlurmSilent(f"nothing was changed: {snapshot.silent}")
        yield snapshot


def apply(
    snapshot: Snapshot,
    profile: Profile,
    planned: repair.Repair,
    changes: Mapping[str, ResourceChange] | None = None,
    on_submit: Callable[[Submission], None] = lambda _: None,
    why: Mapping[str, str] | None = None,
) -> Outcome:
    """Carry out ``planned``: all of the new jobs first, then out with what they replace.

    Raises:
        InputError: Slurm refuses a job for what it asks; nothing that is queued was taken out.
        SlurmSilent: Slurm fell silent; what it has taken is found by the next transaction.
    """
    outcome = Outcome()
    keep_profile(snapshot.run, profile)

    def note(submission: Submission) -> None:
        outcome.submitted.append(submission)
        on_submit(submission)

    submitter = Submitter(snapshot.run, profile, note, snapshot.facts, why)

    def make_room() -> bool:
        # What is here will never run, and stands in the journal as work to be handed in.
        ended = [] if outcome.cancelled else repair.cancel(snapshot, planned.cancel, "room")
        outcome.cancelled += ended
        return bool(ended)

    try:
        sizes = {one.job: one.elements for one in snapshot.journal.submissions}
        submitter.submit(planned.work, sizes, changes, make_room)
    except SubmitLimit as limit:
        outcome.held_back = str(limit)
        return outcome
    if not outcome.cancelled:
        outcome.cancelled += repair.cancel(snapshot, planned.cancel, "replaced")
    return outcome


def recover(run: Run, wait: float) -> None:
    """Put right what a command that died has left: adopt the jobs that Slurm took without its knowing, drop the
    intents that came to nothing, end the cancels that were begun.

    Raises:
        SlurmSilent: it cannot be told what became of them; nothing was changed.
    """
    journal = read_journal(run)
    if not journal.intents:
        return
    lines = [line for line in squeue.ask_queue_of_user(wait) if line.comment.startswith(comment_prefix(run))]
    here = cluster.ask_facts(wait).name
    in_queue = {line.comment: array_of(line.job) for line in lines}
    known = {one.comment: one.job for one in journal.submissions}
    held = {shard: one for one in journal.submissions for shard in ((one.stage, name) for name in one.shards)}
    strays: list[str] = []
    for comment, intent in journal.intents.items():
        if intent.cluster and intent.cluster != here:
            continue
        job = in_queue.get(comment) or (_job_that_ran(intent) if comment in journal.unfinished else None)
        if comment in known:
            strays += sorted({array_of(line.job) for line in lines if line.comment == comment} - {known[comment]})
        elif job is None:
            if comment in journal.unfinished:
                withdraw(intent)
                record_abandoned(run, comment)
        elif any(one.submitted > intent.submitted for name in intent.shards if (one := held.get((intent.stage, name)))):
            strays.append(job)
        else:
            record_submission(run, replace(intent, job=job))
    if strays:
        cluster.cancel(strays)
    queued = {line.job for line in lines if line.alive and line.comment in known}
    for why in ("replaced", "room"):
        left = [job for job, reason in journal.half_cancelled.items() if reason == why]
        if alive := [job for job in left if job in queued]:
            cluster.cancel(alive)
        record_cancel(run, left, why, done=True)


def _job_that_ran(intent: Submission) -> str | None:
    """The job that wrote its number into the folder of ``intent`` when it started."""
    try:
        return (Path(intent.folder) / "job").read_text().strip() or None
    except FileNotFoundError:
        return None
