"""Change the queue of a run so that it ends whole: submit what is missing, rerun, cancel, mend the graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from modpo_hpc.errors import InputError
from modpo_hpc.launch import cluster
from modpo_hpc.launch.fields import array_of
from modpo_hpc.launch.graph import Needs, Work, plan_work, required, unmet_needs
from modpo_hpc.launch.squeue import NEVER_SATISFIED
from modpo_hpc.launch.state import Snapshot
from modpo_hpc.launch.submissions import Submission, record_cancel
from modpo_hpc.pipeline import STAGES, Stage, stage_named

WAITS_FOR_OTHERS = ("Dependency", NEVER_SATISFIED)


@dataclass(frozen=True)
class Repair:
    """Work to hand in, and after that the jobs to take out of the queue: what it replaces, what can never run."""

    work: tuple[Work, ...]
    cancel: tuple[str, ...]


def needs_of(snapshot: Snapshot) -> Needs:
    """What each shard of the run reads: single shards where its stage says which, else whole stages."""
    study = snapshot.run.full_study
    whole = {stage: frozenset(states) for stage, states in snapshot.shards.items()}
    known: dict[tuple[str, str], dict[str, frozenset[str]]] = {}

    def needs(name: str, shard: str) -> dict[str, frozenset[str]]:
        stage = stage_named(name)
        key = name, stage.item(shard)
        if key not in known:
            chosen = stage.needs_of_item(study, key[1])
            known[key] = {need: whole[need] if some is None else frozenset(some) for need, some in chosen.items()}
        return known[key]

    return needs


def missing_work(snapshot: Snapshot, stages: Sequence[Stage]) -> dict[str, list[str]]:
    """Stage -> shards that have to be made so that ``stages`` are complete.

    Where something that a shard reads is made again, it is handed in, too: if its inputs turn out as they were, it
    sees that when it starts, and ends. What cannot be looked at from here is left alone.
    """
    wanted: dict[str, list[str]] = {}
    needs = needs_of(snapshot)
    for stage in stages:
        states, again = snapshot.shards[stage.name], dict[int, bool]()
        shards = []
        for shard, one in states.items():
            if one.state == "unknown":
                continue
            reads = needs(stage.name, shard)
            if id(reads) not in again:
                again[id(reads)] = any(not set(mine).isdisjoint(wanted.get(need, ())) for need, mine in reads.items())
            if one.state != "done" or again[id(reads)]:
                shards.append(shard)
        if shards:
            wanted[stage.name] = shards
    return wanted


def plan_repair(
    snapshot: Snapshot, wanted: Mapping[str, Sequence[str]], again: Mapping[str, Collection[str]] | None = None
) -> Repair:
    """How to get ``wanted`` into the queue, with everything that waits for what has failed handed in anew.

    What would still lack something is left in the queue as it is: it waits for another rerun. Shards of ``again`` are
    made anew though they are done, when those that read the present result have ended.

    Raises:
        IncompleteError: something that ``wanted`` needs is neither done, nor queued, nor wanted.
    """
    again, needs = again or {}, needs_of(snapshot)
    superseded, doomed = superseded_jobs(snapshot), doomed_submissions(snapshot)
    orphans = _never_started(snapshot, wanted)
    out = {job for submission in doomed for job in submission.jobs().values()} | set(superseded)
    alive, incomplete = {stage: snapshot.alive(stage, out) for stage in snapshot.shards}, snapshot.incomplete()
    everything = {stage: set(shards) for stage, shards in wanted.items()}
    mended: list[str] = []
    for stage in STAGES:
        waiting_in_vain = [submission for submission in doomed if submission.stage == stage.name]
        latest = {shard: job for shard, (_, job) in snapshot.journal.latest(stage.name).items()}
        jobs = [pair for one in waiting_in_vain for pair in one.jobs().items()]
        waiting = {shard: job for shard, job in jobs if latest[shard] == job and _waits(snapshot, job)}
        kept = {}
        for shard in dict.fromkeys([*waiting, *orphans.get(stage.name, ())]):
            if not unmet_needs(required(stage.name, needs(stage.name, shard)), everything, alive, incomplete):
                kept[shard] = waiting.get(shard)
        # An array goes as a whole: Slurm knows one dependency for all of it.
        left = {array_of(job) for shard, job in waiting.items() if shard not in kept}
        chosen = [shard for shard, job in kept.items() if job is None or array_of(job) not in left]
        if chosen:
            everything[stage.name] = everything.get(stage.name, set()).union(chosen)
            mended += [one.job for one in waiting_in_vain if one.job not in left]
    ordered = {
        stage: [shard for shard in snapshot.shards[stage] if shard in shards] for stage, shards in everything.items()
    }
    work = plan_work(STAGES, ordered, alive, incomplete, needs)
    readers = _readers(alive, needs, again)
    work = [
        replace(one, again=tuple(mine), after_ended=tuple(readers.get(one.stage, ())))
        if (mine := [shard for shard in one.shards if shard in again.get(one.stage, ())])
        else one
        for one in work
    ]
    return Repair(tuple(work), tuple(dict.fromkeys([*superseded, *mended])))


def _readers(
    alive: Mapping[str, Mapping[str, str]], needs: Needs, again: Mapping[str, Collection[str]]
) -> dict[str, list[str]]:
    """Stage of ``again`` -> the jobs in the queue that read one of its shards."""
    found: dict[str, dict[str, None]] = {}
    for stage, jobs in alive.items():
        for shard, job in jobs.items():
            for need, mine in needs(stage, shard).items():
                if not set(again.get(need, ())).isdisjoint(mine):
                    found.setdefault(need, {})[job] = None
    return {stage: list(jobs) for stage, jobs in found.items()}


def superseded_jobs(snapshot: Snapshot) -> list[str]:
    """Jobs that only wait, and whose every shard has been handed in again since: a command died before it took them
    out, or two of them were handed in for one shard."""
    newest = {job for stage in STAGES for _, job in snapshot.journal.latest(stage.name).values()}
    older = [job for one in snapshot.journal.submissions for job in one.jobs().values() if job not in newest]
    return [job for job in dict.fromkeys(older) if (line := snapshot.queue.get(job)) and line.state == "PENDING"]


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
                remedy=f"What is queued: modpo status {snapshot.run.quoted}",
            )
        chosen += [job for shard, job in alive.items() if job and (not shards or shard in shards)]
    return _whole_arrays(snapshot, chosen)


def cancel(snapshot: Snapshot, jobs: Sequence[str], why: str) -> list[str]:
    """Take ``jobs`` out of the queue; returns, and writes down before and after, which jobs that ended.

    Only what squeue shows with this run's comment is ever touched.
    """
    chosen = set(jobs)
    ended = list(
        dict.fromkeys(
            job
            for submission in snapshot.journal.submissions
            for job in submission.jobs().values()
            if (submission.job in chosen or job in chosen) and _alive(snapshot, job)
        )
    )
    if ended:
        record_cancel(snapshot.run, ended, why, done=False)
        cluster.cancel(_whole_arrays(snapshot, ended))
        record_cancel(snapshot.run, ended, why, done=True)
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
            remedy=f"Wait for it, or cancel it first: modpo cancel {snapshot.run.quoted} {stage} {busy[0]}",
        )


def _never_started(snapshot: Snapshot, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Shards that were taken out of the queue to be handed in anew and were not, and those downstream of ``wanted``
    that Slurm itself cancelled before they began, as some clusters do with jobs whose dependency has failed."""
    found: dict[str, list[str]] = {}
    below: set[str] = set()
    for one in STAGES:
        if not (below | wanted.keys()).isdisjoint(one.needs):
            below.add(one.name)
    for stage, states in snapshot.shards.items():
        for shard, state in states.items():
            started = any(record.seconds for record in snapshot.records_of(state.job))
            by_slurm = stage in below and state.state == "failed" and state.slurm == "CANCELLED" and not started
            by_us = state.state == "cancelled" and snapshot.journal.cancelled.get(state.job or "") in (
                "replaced",
                "room",
            )
            if by_slurm or by_us:
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
    last = max(snapshot.records_of(job), key=lambda record: record.submit or 0, default=None)
    return last is not None and not last.alive and last.state != "COMPLETED"


def _whole_arrays(snapshot: Snapshot, jobs: Sequence[str]) -> list[str]:
    chosen, names = set(jobs), list[str]()
    for submission in snapshot.journal.submissions:
        mine = dict.fromkeys(job for job in submission.jobs().values() if _alive(snapshot, job))
        whole = mine and chosen.issuperset(mine)
        names += [submission.job] if whole else [job for job in mine if job in chosen]
        chosen.difference_update(mine)
    return names
