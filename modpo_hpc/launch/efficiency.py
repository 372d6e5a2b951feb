"""What the jobs of a run used of what they asked for: a row a stage, and requests that fit what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modpo_hpc.core.markers import read_marker
from modpo_hpc.launch.fields import count_of, instant, megabytes_of, seconds_of
from modpo_hpc.launch.profile import EARLY_SIGNAL_SECONDS, Profile
from modpo_hpc.launch.sacct import ask
from modpo_hpc.launch.state import Snapshot

USAGE_FIELDS = (
    "JobID,State,ElapsedRaw,TotalCPU,MaxRSS,ReqMem,TimelimitRaw,Submit,Start,AllocTRES,TRESUsageInAve,JobName"
)
MEMORY_MARGIN, MEMORY_FLOOR_GB = 1.3, 0.25
TIME_MARGIN = 2.0
SHORT_TASK_SECONDS = 900.0
START_UP_SHARE = 0.2
"""From this share of a shard's time on it is worth paying the start-up once for several."""


@dataclass(frozen=True)
class JobUsage:
    """What one life of a job took: memory in GB, seconds, CPU seconds, GPU utilization in per cent if it was kept."""

    job: str
    state: str
    seconds: int
    cpu_seconds: float
    asked_gb: float | None
    waited: float | None
    cpus: int
    gpus: int
    memory_gb: float | None = None
    gpu_percent: float | None = None


@dataclass(frozen=True)
class Efficiency:
    """One row: the largest and the usual beside what was asked. ``wasted_hours`` are hours of jobs that made nothing,
    ``gb_hours`` memory asked times time held."""

    stage: str
    jobs: int
    memory_gb: float | None
    asked_gb: float
    cpu_share: float | None
    gpu_share: float | None
    seconds: float
    asked_seconds: float
    waited: float | None
    hours: float
    wasted_hours: float
    gpu_hours: float
    gb_hours: float
    price: float


def ask_usage(snapshot: Snapshot) -> list[JobUsage]:
    """What sacct kept of the run's jobs; empty where no accounts are kept."""
    jobs = [one.job for one in snapshot.journal.submissions if one.job not in snapshot.unseen]
    text = ask(jobs, snapshot.journal.since, USAGE_FIELDS, "--duplicates") if jobs else None
    return read_usage(text or "")


def read_usage(text: str) -> list[JobUsage]:
    """Lines of sacct with USAGE_FIELDS: a job, and below it its steps, of which the largest memory counts."""
    found: list[JobUsage] = []
    for line in text.splitlines():
        job, state, seconds, cpu, rss, asked, _, submit, start, tres, used, _ = line.split("|", 11)
        memory, gpu_percent = _gigabytes(rss), count_of(used, "gres/gpuutil") or None
        if "[" in job:
            continue  # elements that have not begun
        if "." not in job:
            begun, handed_in = instant(start), instant(submit)
            one = JobUsage(
                job=job,
                state=state.split()[0],
                seconds=int(seconds or 0),
                cpu_seconds=_cpu_seconds(cpu),
                asked_gb=_gigabytes(asked),
                waited=max(0.0, begun - handed_in) if begun and handed_in else None,
                cpus=count_of(tres, "cpu"),
                gpus=count_of(tres, "gres/gpu"),
            )
            found.append(one)
        elif found and found[-1].job == job.partition(".")[0]:
            memories, shares = (found[-1].memory_gb, memory), (found[-1].gpu_percent, gpu_percent)
            found[-1] = replace(found[-1], memory_gb=_largest(memories), gpu_percent=_largest(shares))
    return found


def efficiencies(snapshot: Snapshot, usage: Sequence[JobUsage], gpu_hour: float) -> list[Efficiency]:
    """A row for each stage that had jobs. What sacct does not know is taken from the markers."""
    by_job: dict[str, list[JobUsage]] = {}
    for one in usage:
        by_job.setdefault(one.job, []).append(one)
    rows = []
    for stage, states in snapshot.shards.items():
        submissions = [one for one in snapshot.journal.submissions if one.stage == stage]
        jobs = {job: one for one in submissions for job in one.jobs().values()}
        lives = [life for job in jobs for life in by_job.get(job, []) if life.seconds]
        folder = snapshot.run.folder(stage)
        done = [shard for shard, one in states.items() if one.state == "done"]
        markers = [marker for shard in done if (marker := read_marker(folder, shard))]
        peaks = [peak for marker in markers if (peak := marker.metrics.get("peak_memory_gb"))]
        if not submissions or not (lives or markers):
            continue
        memory = [one.memory_gb for one in lives if one.memory_gb is not None] + peaks
        held = sum(one.seconds * max(1, one.cpus) for one in lives)
        gpu = [(one.gpu_percent / 100, one.seconds) for one in lives if one.gpu_percent is not None]
        waited = [one.waited for one in lives if one.waited is not None]
        gpu_hours = sum(one.seconds * one.gpus for one in lives) / 3600
        rows.append(
            Efficiency(
                stage=stage,
                jobs=len(jobs),
                memory_gb=max(memory, default=None),
                asked_gb=max(one.memory_gb for one in submissions),
                cpu_share=sum(one.cpu_seconds for one in lives) / held if held else None,
                gpu_share=sum(share * seconds for share, seconds in gpu) / sum(seconds for _, seconds in gpu)
                if gpu
                else None,
                seconds=max([float(one.seconds) for one in lives] or [marker.seconds for marker in markers]),
                asked_seconds=60.0 * max(one.minutes for one in submissions),
                waited=statistics.median(waited) if waited else None,
                hours=sum(one.seconds for one in lives) / 3600,
                wasted_hours=sum(one.seconds for one in lives if one.state not in ("COMPLETED", "RUNNING")) / 3600,
                gpu_hours=gpu_hours,
                gb_hours=sum(one.seconds * (one.asked_gb or jobs[one.job].memory_gb) for one in lives) / 3600,
                price=gpu_hours * gpu_hour,
            )
        )
    return rows


def fitted(profile: Profile, rows: Sequence[Efficiency], snapshot: Snapshot) -> Profile:
    """``profile`` with the memory and the time that was measured, with a margin, for stages that are done.

    A stage with a failure keeps what it asked: what it would have needed is not known.
    """
    stages: dict[str, Any] = {name: one.model_dump(exclude_unset=True) for name, one in profile.stages.items()}
    shortest = math.ceil((profile.limits.signal_seconds + EARLY_SIGNAL_SECONDS) / 60) + 1
    for row in rows:
        if row.memory_gb is None or any(one.state != "done" for one in snapshot.shards[row.stage].values()):
            continue
        memory = max(MEMORY_FLOOR_GB, math.ceil(row.memory_gb * MEMORY_MARGIN * 20) / 20)
        pack = max(one.pack for one in snapshot.journal.submissions if one.stage == row.stage)
        minutes = max(shortest, math.ceil(row.seconds * TIME_MARGIN / 60 / pack))  # a job asks this for each shard
        stages[row.stage] = {**stages.get(row.stage, {}), "memory_gb": memory, "minutes": minutes}
    return Profile.model_validate({**profile.model_dump(exclude_unset=True), "stages": stages})


def proposed_pack(shards: int, work_seconds: float, start_up_seconds: float, throttle: int) -> int:
    """How many shards a job should make, so that start-up is paid seldom, all slots are used and no job gets long."""
    if shards < 2 or start_up_seconds < START_UP_SHARE * (work_seconds + start_up_seconds):
        return 1
    return max(1, min(shards // throttle, int(SHORT_TASK_SECONDS / max(1.0, work_seconds))))


def totals(rows: Sequence[Efficiency]) -> Mapping[str, float]:
    """Sums over the stages."""
    names = ("jobs", "hours", "wasted_hours", "gpu_hours", "gb_hours", "price")
    return {name: sum(getattr(row, name) for row in rows) for name in names}


def _largest(values: Iterable[float | None]) -> float | None:
    return max(filter(None, values), default=None)


def _gigabytes(size: str) -> float | None:
    megabytes = megabytes_of(size)
    return megabytes / 1024 if megabytes else None


def _cpu_seconds(text: str) -> float:
    whole, _, part = text.partition(".")
    return seconds_of(whole) + (float(f"0.{part}") if part.isdigit() else 0.0)
