"""Change the queue of a run so that it ends whole: submit what is missing, rerun, cancel, mend the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modpo_hpc.errors import InputError
from modpo_hpc.launch import cluster
from modpo_hpc.launch.graph import Work, downstream, plan_work, unmet_needs
from modpo_hpc.launch.squeue import NEVER_SATISFIED
from modpo_hpc.launch.state import Snapshot
from modpo_hpc.launch.submissions import Submission, record_cancel
from modpo_hpc.pipeline import STAGES, Stage

WAITS_FOR_OTHERS = ("Dependency", NEVER_SATISFIED)


@dataclass(frozen=True)
class Repair:
    """Jobs to take out of the queue, and work to hand in after that."""

    cancel: tuple[str, ...]
    work: tuple[Work, ...]


def missing_work(snapshot: Snapshot, stages: Sequence[Stage]) -> dict[str, list[str]]:
    """Stage -> shards that have to be made so that ``stages`` are complete.

    Where something that a stage needs is made again, all its shards are handed in: one whose inputs turn out as they
    were sees that when it starts, and ends.
    """
    wanted: dict[str, list[str]] = {}
    for stage in stages:
        again = any(need in wanted for need in stage.needs)
        shards = list(snapshot.shards[stage.name]) if again else snapshot.incomplete(stage.name)
        if shards:
            wanted[stage.name] = shards
    return wanted


def plan_repair(snapshot: Snapshot, wanted: Mapping[str, Sequence[str]]) -> Repair:
    """How to get ``wanted`` into the queue, with everything that waits for what has failed handed in anew.

    What would still lack something is left in the queue as it is: it waits for another rerun.

    Raises:
        IncompleteError: something that ``wanted`` needs is neither done, nor queued, nor wanted.
    """
    doomed = doomed_submissions(snapshot)
    orphans = _never_started(snapshot, wanted)
    out = {job for submission in doomed for job in submission.jobs().values()}
    alive = {
        stage.name: {shard: job for shard, job in snapshot.alive(stage.name).items() if job not in out}
        for stage in STAGES
    }
    incomplete = {stage.name: snapshot.incomplete(stage.name) for stage in STAGES}
    counts = {stage.name: len(snapshot.shards[stage.name]) for stage in STAGES}
    everything = {stage: list(shards) for stage, shards in wanted.items()}
    mended: list[Submission] = []
    for stage in STAGES:
        mine = [submission for submission in doomed if submission.stage == stage.name]
        waiting = [shard for one in mine for shard, job in one.jobs().items() if _waits(snapshot, job)]
        again = [*waiting, *orphans.get(stage.name, ())]
        if again and not unmet_needs(stage, everything, alive, incomplete, counts):
            everything[stage.name] = list(dict.fromkeys([*everything.get(stage.name, []), *again]))
            mended += mine
    order = {stage.name: {shard: place for place, shard in enumerate(snapshot.shards[stage.name])} for stage in STAGES}
    work = plan_work(
        STAGES,
        {stage: sorted(shards, key=order[stage].__getitem__) for stage, shards in everything.items()},
        alive,
        incomplete,
        counts,
    )
    return Repair(tuple(submission.job for submission in mended), tuple(work))


def doomed_submissions(snapshot: Snapshot) -> list[Submission]:
    """Submissions that wait for a job that has ended badly, or for such a submission: they would wait for ever."""
    doomed: list[Submission] = []
    lost: set[str] = set()
    members: dict[str, list[str]] = {}
    for submission in snapshot.journal.submissions:
        members[submission.job] = list(submission.jobs().values())
        waiting = [job for job in submission.jobs().values() if _waits(snapshot, job)]
        if not waiting:
            continue
        parents = [one for job in submission.after for one in members.get(job, [job])]
        stuck = any(snapshot.queue[job].stuck for job in waiting)
        if stuck or any(parent in lost or _ended_badly(snapshot, parent) for parent in parents):
            doomed.append(submission)
            lost.update(submission.jobs().values())
    return doomed


def select_jobs(snapshot: Snapshot, stage: str | None, shards: Sequence[str]) -> list[str]:
    """The queued or running jobs of the run, of ``stage``, or of some of its shards; whole arrays where possible.

    Raises:
        InputError: one of ``shards`` is not in the queue.
    """
    chosen: list[str] = []
    for name, states in snapshot.shards.items():
        if stage not in (None, name):
            continue
        alive = {shard: one.job for shard, one in states.items() if one.job and _alive(snapshot, one.job)}
        if absent := [shard for shard in shards if shard not in alive]:
            raise InputError(
                f"stage {name} has no such shard in the queue",
                field="SHARD",
                value=absent[0],
                remedy=f"What is queued: modpo status {snapshot.run.root}",
            )
        chosen += [job for shard, job in alive.items() if job and (not shards or shard in shards)]
    return _whole_arrays(snapshot, chosen)


def cancel(snapshot: Snapshot, jobs: Sequence[str], why: str) -> list[str]:
    """Take ``jobs`` out of the queue; returns, and writes down, which single jobs and elements that ended."""
    chosen = set(jobs)
    ended = [
        job
        for submission in snapshot.journal.submissions
        for job in submission.jobs().values()
        if (submission.job in chosen or job in chosen) and _alive(snapshot, job)
    ]
    if ended:
        record_cancel(snapshot.run, ended, why)
        cluster.cancel(jobs)
    return ended


def check_not_alive(snapshot: Snapshot, stage: str, shards: Sequence[str]) -> None:
    """Refuse to rerun what is queued or running.

    Raises:
        InputError: names the shard and its job.
    """
    alive = snapshot.alive(stage)
    if busy := [shard for shard in shards if shard in alive]:
        raise InputError(
            f"this shard of {stage} is {snapshot.shards[stage][busy[0]].state} as job {alive[busy[0]]}",
            field="SHARD",
            value=busy[0],
            remedy=f"Wait for it, or cancel it first: modpo cancel {snapshot.run.root} {stage} {busy[0]}",
        )


def _never_started(snapshot: Snapshot, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Shards downstream of ``wanted`` that Slurm itself cancelled before they began, as some clusters do with jobs
    whose dependency has failed."""
    found: dict[str, list[str]] = {}
    for stage in dict.fromkeys(one for name in wanted for one in downstream(name, STAGES)):
        for shard, state in snapshot.shards[stage].items():
            records = (snapshot.records or {}).get(state.job or "", [])
            started = any(record.seconds for record in records)
            if state.state == "failed" and state.slurm == "CANCELLED" and not started:
                found.setdefault(stage, []).append(shard)
    return found


def _waits(snapshot: Snapshot, job: str) -> bool:
    line = snapshot.queue.get(job)
    return line is not None and line.state == "PENDING" and line.reason in WAITS_FOR_OTHERS


def _alive(snapshot: Snapshot, job: str) -> bool:
    line = snapshot.queue.get(job)
    return line is not None and line.alive


def _ended_badly(snapshot: Snapshot, job: str) -> bool:
    line = snapshot.queue.get(job)
    if line is not None:
        return not line.alive and line.state != "COMPLETED"
    records = (snapshot.records or {}).get(job, [])
    last = max(records, key=lambda record: record.submit or 0, default=None)
    return last is not None and not last.alive and last.state != "COMPLETED"


def _whole_arrays(snapshot: Snapshot, jobs: Sequence[str]) -> list[str]:
    chosen, names = set(jobs), []
    for submission in snapshot.journal.submissions:
        mine = [job for job in submission.jobs().values() if _alive(snapshot, job)]
        if mine and chosen.issuperset(mine):
            names.append(submission.job)
            chosen -= set(mine)
        else:
            names += [job for job in mine if job in chosen]
            chosen -= set(mine)
    return names
