"""Tend a run: hand in what the cluster has room for, and apply the remedies of triage within bounds.

A round is one transaction. What it must not touch: defects of code and input, what a person has cancelled, and what
cannot be seen from here. What a stage was found to need is written into the journal, and every later job gets it.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from modpo_hpc.launch import cluster
from modpo_hpc.launch.allocation import allocate
from modpo_hpc.launch.batch_scripts import ResourceChange
from modpo_hpc.launch.graph import unmet_needs
from modpo_hpc.launch.profile import Profile
from modpo_hpc.launch.repair import Repair, doomed_submissions, needs_of, plan_repair
from modpo_hpc.launch.slurm import check_with_slurm
from modpo_hpc.launch.state import Snapshot
from modpo_hpc.launch.submissions import Submission, record_released
from modpo_hpc.launch.transaction import Outcome, apply, transaction
from modpo_hpc.launch.triage import Cause, Failure, find_failures, suspects
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run

MORE_MEMORY, MORE_TIME = 1.5, 2.0
BOUNDS: dict[Cause, int] = {
    "oom": 4, "time": 3, "node": 3, "preempted": 5, "api": 3, "killed": 3, "lost": 3, "disk": 3, "slurm": 5,
}  # fmt: skip
"""Cause -> how often a shard is handed in again for it, or for any other. What is not here waits for a person, unless
it happened on a node that fails what others do well."""
ON_SUSPECTS = 2
ROOM_BYTES = 1e9
REMEDY = "tend: remedy"
FEED = "tend: feed"
STILL_FULL = "the queue is still full"
State = Literal["going on", "complete", "needs you", "nothing asked for"]


@dataclass
class Round:
    """What a round found and did. ``left`` are the failures that wait for a person, ``in_queue`` counts the
    run's jobs in the queue afterwards. ``released`` are jobs that Slurm held because a node could not start them,
    ``held`` those that it held once too often."""

    state: State
    outcome: Outcome = field(default_factory=Outcome)
    remedies: dict[str, ResourceChange] = field(default_factory=dict)
    mended: list[Failure] = field(default_factory=list)
    left: list[Failure] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    done: int = 0
    total: int = 0
    in_queue: int = 0


def tend_once(
    run: Run,
    profile: Profile,
    on_submit: Callable[[Submission], None] = lambda _: None,
    full_at: int | None = None,
) -> Round:
    """Look, and do what can be done now.

    ``full_at`` is the number of jobs in the queue at which the cluster took no more, lately: until there are fewer,
    it is not asked again.

    Raises:
        SlurmSilent: nothing can be told now; nothing was changed.
    """
    with transaction(run, wait=cluster.MOMENT) as snapshot:
        found, planned = plan_round(snapshot, cluster.partitions(), profile)
        found.in_queue = sum(line.alive for line in snapshot.queue.values())
        if found.released:
            record_released(run, found.released)
            cluster.release(found.released)
        if not (planned.work or planned.cancel):
            return found
        if full_at is not None and found.in_queue >= full_at and not found.remedies:
            found.outcome.held_back = STILL_FULL
            return found
        check_with_slurm(run, profile, planned.work, found.remedies)
        why = {work.stage: REMEDY if work.stage in found.remedies else FEED for work in planned.work}
        found.outcome = apply(snapshot, profile, planned, found.remedies, on_submit, why)
        found.in_queue += sum(one.elements for one in found.outcome.submitted) - len(found.outcome.cancelled)
        if found.outcome.submitted:
            found.state = "going on"
        return found


def plan_round(snapshot: Snapshot, limits: Mapping[str, float], profile: Profile) -> tuple[Round, Repair]:
    """What there is to do: the stages that were asked for, without what waits for a person."""
    stages = [stage for stage, states in snapshot.shards.items() if stage in snapshot.journal.goal and states]
    states = [one for stage in stages for one in snapshot.shards[stage].values()]
    failures = [one for one in find_failures(snapshot) if one.state.stage in stages]
    bad_nodes = suspects(snapshot, failures)
    mended = [one for one in failures if _may_again(snapshot, one, bad_nodes)]
    remedies = remedies_of(snapshot, mended, bad_nodes, limits, profile)
    left = [one for one in failures if one not in mended]
    found = Round("going on", remedies=remedies, mended=mended, left=left)
    for job in sorted(job for job, line in snapshot.queue.items() if line.held_after_start):
        again = snapshot.journal.released.get(job, 0) < BOUNDS["node"]
        (found.released if again else found.held).append(job)
    found.done, found.total = sum(one.state == "done" for one in states), len(states)
    if found.done == found.total:
        found.state = "complete" if stages else "nothing asked for"
        return found, Repair((), ())
    wanted = _wanted(snapshot, stages, {(one.state.stage, one.state.shard) for one in left})
    planned = plan_repair(snapshot, wanted)
    in_queue = any(one.state in ("running", "queued", "unknown") and one.job not in found.held for one in states)
    if not planned.work and not in_queue:
        found.state = "needs you"
    return found, planned


def remedies_of(
    snapshot: Snapshot,
    failures: Sequence[Failure],
    bad_nodes: Sequence[str],
    limits: Mapping[str, float],
    profile: Profile,
) -> dict[str, ResourceChange]:
    """Stage -> what its jobs get from now on, so that ``failures`` do not come again."""
    changes: dict[str, ResourceChange] = {}
    for stage in dict.fromkeys(one.state.stage for one in failures):
        last = {shard: one for shard, (one, _) in snapshot.journal.latest(stage).items()}
        mine = [
            (one, last[one.state.shard]) for one in failures if one.state.stage == stage and one.state.shard in last
        ]
        memory = max((one.memory_gb for failure, one in mine if failure.cause == "oom"), default=0.0)
        minutes = max((one.minutes for failure, one in mine if failure.cause == "time"), default=0)
        partition = allocate(profile, snapshot.run.study, stage_named(stage)).partition or ""
        longest = max((limits.get(one, math.inf) for one in partition.split(",")), default=math.inf)
        changes[stage] = ResourceChange(
            memory_gb=memory * MORE_MEMORY or None,
            minutes=int(min(minutes * MORE_TIME, longest)) or None,
            exclude=tuple(bad_nodes),
        )
    return changes


def _may_again(snapshot: Snapshot, failure: Failure, bad_nodes: Sequence[str]) -> bool:
    bound = BOUNDS.get(failure.cause, ON_SUSPECTS if failure.node in bad_nodes else 0)
    if failure.cause == "disk" and not all(_has_room(place) for place in (snapshot.run.root, snapshot.run.logs)):
        return False
    before = sum(
        one.why == REMEDY and one.stage == failure.state.stage and failure.state.shard in one.shards
        for one in snapshot.journal.submissions
    )
    return before < bound


def _has_room(place: object) -> bool:
    try:
        return shutil.disk_usage(str(place)).free > ROOM_BYTES
    except OSError:
        return False


def _wanted(snapshot: Snapshot, stages: Sequence[str], left: set[tuple[str, str]]) -> dict[str, list[str]]:
    """Shards to hand in: neither done, nor in the queue, nor waiting for a person, and with their needs met."""
    needs, doomed = needs_of(snapshot), {job for one in doomed_submissions(snapshot) for job in one.jobs().values()}
    alive, incomplete = {stage: snapshot.alive(stage, doomed) for stage in snapshot.shards}, snapshot.incomplete()
    wanted: dict[str, list[str]] = {}
    for stage in stages:
        for shard, one in snapshot.shards[stage].items():
            by_hand = one.state == "cancelled" and snapshot.journal.cancelled.get(one.job or "") == "asked"
            if one.state in ("done", "unknown") or shard in alive[stage] or by_hand or (stage, shard) in left:
                continue
            if not unmet_needs(needs(stage, shard), wanted, alive, incomplete):
                wanted.setdefault(stage, []).append(shard)
    return wanted
