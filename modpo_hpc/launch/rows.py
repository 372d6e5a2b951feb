"""A row of status for each stage: counts, pace, what is left, and the hours that went into it."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from modpo_hpc.core.code import different_code
from modpo_hpc.launch.state import STATES, ShardState, Snapshot, State
from modpo_hpc.pipeline import stage_named

RECENT_MARKERS = 50
REASONS = {
    "Priority": "others come first",
    "Resources": "no node is free",
    "JobArrayTaskLimit": "the throttle of the profile",
    "BeginTime": "back in the queue, in a moment",
    "JobHeldUser": "held: scontrol release JOB",
    "JobHeldAdmin": "held by an administrator",
    "ReqNodeNotAvail": "a node that it asks for is down or reserved",
    "PartitionDown": "its partition is down",
    "PartitionTimeLimit": "longer than its partition allows: it will never start",
    "launch failed requeued held": "held after a failed start: scontrol release JOB",
    "launch failure limit exceeded requeued held": "held after too many failed starts: scontrol release JOB",
    "user env retrieval failed requeued held": "held after a failed start: scontrol release JOB",
}
"""What Slurm's reasons for waiting mean. Waiting for what a shard needs is no news, and left out."""


@dataclass(frozen=True)
class StageState:
    """One row of status."""

    stage: str
    total: int
    counts: dict[State, int]
    rows: int
    shards_per_hour: float | None
    seconds_left: float | None
    gpu_hours: float
    gpu_hours_wasted: float
    cpu_hours: float
    newest_failure: ShardState | None
    notes: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


def summarise(snapshot: Snapshot, stage: str) -> StageState:
    """The row of ``stage``."""
    states = snapshot.shards[stage]
    found = snapshot.survey[stage]
    counts: dict[State, int] = {state: 0 for state in STATES}
    counts |= Counter(one.state for one in states.values())
    done = [marker for shard, marker in found.markers.items() if states[shard].state == "done"]
    spans = [(marker.started, marker.started + marker.seconds) for marker in done if marker.seconds > 0]
    begun = [one.when for one in states.values() if one.state == "running" and one.when]
    throttle = sum({one.job: one.throttle for one, _ in snapshot.journal.latest(stage).values()}.values())
    at_once = shards_at_once(spans, counts["running"], throttle)
    gpu, gpu_wasted, cpu = _hours(snapshot, stage)
    failures = [one for one in states.values() if one.state == "failed"]
    notes = Counter(one.note for one in states.values() if one.note)
    return StageState(
        stage=stage,
        total=len(states),
        counts=counts,
        rows=sum(marker.rows for marker in done),
        shards_per_hour=at_once * 3600 / typical_seconds(spans) if spans else None,
        seconds_left=seconds_left(spans, [snapshot.taken - one for one in begun], counts, at_once),
        gpu_hours=gpu,
        gpu_hours_wasted=gpu_wasted,
        cpu_hours=cpu,
        newest_failure=max(failures, key=lambda one: one.when or 0.0, default=None),
        notes=(
            *(f"{count} x {note}" if count > 1 else note for note, count in notes.items()),
            *different_code([line.code for line in done]),
        ),
        waiting=reasons_of_waiting(list(states.values()), snapshot.taken),
    )


def reasons_of_waiting(states: Sequence[ShardState], now: float) -> tuple[str, ...]:
    """Why shards wait though what they need is there, in Slurm's word and ours, and when it expects them to start."""
    found: dict[str, list[ShardState]] = {}
    for one in states:
        if one.state == "queued" and one.reason not in ("Dependency", "None", ""):
            found.setdefault(one.reason, []).append(one)
    said = []
    for reason, some in found.items():
        key = reason.partition(",")[0].strip("()")
        held = "held" in reason.lower()  # Slurm tells a start all the same
        starts = [one.when for one in some if one.when is not None and one.when > now and not held]
        when = f", the first expected in {_minutes(min(starts) - now)}" if starts else ""
        meaning = f": {REASONS[key]}" if key in REASONS else ": a limit of your account or qos" * ("Limit" in key)
        said.append(f"{len(some)} wait ({reason}{meaning}{when})")
    return tuple(said)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _hours(snapshot: Snapshot, stage: str) -> tuple[float, float, float]:
    """GPU-hours, GPU-hours of records that made nothing, and CPU-hours."""
    states = snapshot.shards[stage]
    if snapshot.records is not None:
        gpu = wasted = cpu = 0.0
        for submission in (one for one in snapshot.journal.submissions if one.stage == stage):
            for shard, job in submission.jobs().items():
                for record in snapshot.records.get(job, []):
                    gpu += record.seconds * record.gpus / 3600
                    cpu += record.seconds * record.cpus / 3600
                    useful = record.alive or (record.state == "COMPLETED" and states[shard].state == "done")
                    wasted += 0 if useful else record.seconds * record.gpus / 3600
        return gpu, wasted, cpu
    resources = {shard: submission for shard, (submission, _) in snapshot.journal.latest(stage).items()}
    gpu = cpu = 0.0
    for shard, marker in snapshot.survey[stage].markers.items():
        if shard in resources:
            gpu += marker.seconds * resources[shard].gpus * resources[shard].nodes / 3600
            cpu += marker.seconds * resources[shard].cpus * resources[shard].nodes / 3600
        else:
            cpu += marker.seconds * stage_named(stage).resources(snapshot.run.study).cpus / 3600
    return gpu, 0.0, cpu


def typical_seconds(spans: Sequence[tuple[float, float]]) -> float:
    """The median time of the newest shards; each span is a start and an end."""
    newest = sorted(spans, key=lambda span: span[1])[-RECENT_MARKERS:]
    return max(1e-3, statistics.median(end - start for start, end in newest))


def shards_at_once(spans: Sequence[tuple[float, float]], running: int, throttle: int) -> int:
    """How many shards are made at once: as many as now, or as lately, within the ``throttle`` (0: none known)."""
    newest = sorted(spans, key=lambda span: span[1])[-RECENT_MARKERS:]
    changes = sorted([(start, 1) for start, _ in newest] + [(end, -1) for _, end in newest])
    most = max(running, *accumulate(change for _, change in changes), 0)
    return max(1, min(most, throttle or most))


def seconds_left(
    spans: Sequence[tuple[float, float]], elapsed: Sequence[float], counts: Mapping[State, int], at_once: int
) -> float | None:
    """Until the last shard in the queue is done: what runs, and then as many waves as the others take.

    None where nothing is in the queue, or nothing was finished from which to tell. Waiting for nodes is not in it.
    """
    if not spans or not counts["running"] + counts["queued"]:
        return None
    each = typical_seconds(spans)
    coming = counts["queued"] + (counts["todo"] + counts["stale"] if counts["running"] else 0)
    waves = math.ceil(coming / at_once)
    running = max((max(0.0, each - one) for one in elapsed), default=each if counts["running"] else 0.0)
    return running + waves * each
