"""A row of status for each stage: counts, pace, what is left, and the hours that went into it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from modpo_hpc import shards
from modpo_hpc.launch.state import STATES, ShardState, Snapshot, State
from modpo_hpc.pipeline import stage_named

RECENT_MARKERS = 50


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


def summarise(snapshot: Snapshot, stage: str) -> StageState:
    """The row of ``stage``."""
    states = snapshot.shards[stage]
    found = snapshot.survey[stage]
    counts: dict[State, int] = {state: 0 for state in STATES}
    counts |= Counter(one.state for one in states.values())
    done = [marker for shard, marker in found.markers.items() if states[shard].state == "done"]
    rate = _rate(done, snapshot.taken)
    left = len(states) - counts["done"]
    gpu, gpu_wasted, cpu = _hours(snapshot, stage)
    failures = [one for one in states.values() if one.state == "failed"]
    notes = Counter(one.note for one in states.values() if one.note)
    return StageState(
        stage=stage,
        total=len(states),
        counts=counts,
        rows=sum(marker.rows for marker in done),
        shards_per_hour=rate,
        seconds_left=_time_left(left, rate, done, counts["running"]),
        gpu_hours=gpu,
        gpu_hours_wasted=gpu_wasted,
        cpu_hours=cpu,
        newest_failure=max(failures, key=lambda one: one.when or 0.0, default=None),
        notes=tuple(f"{count} x {note}" if count > 1 else note for note, count in notes.items()),
    )


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


def _rate(done: Sequence[shards.Marker], now: float) -> float | None:
    """Shards an hour over the newest ones, if they are recent."""
    ends = sorted(marker.started + marker.seconds for marker in done)[-RECENT_MARKERS:]
    if len(ends) < 2 or ends[-1] - ends[0] < 1e-3:
        return None
    return (len(ends) - 1) / (ends[-1] - ends[0]) * 3600


def _time_left(left: int, rate: float | None, done: Sequence[shards.Marker], running: int) -> float | None:
    if not left or not running:
        return None
    if rate:
        return left / rate * 3600
    if not done:
        return None
    return statistics.median(marker.seconds for marker in done) * left / running
