"""What a study will take: counts from the study, speeds and prices from the profile, times from finished shards.

Counts of items and calls are exact; tokens, hours and prices are estimates, and say so where they are shown.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from modpo_hpc.launch.allocation import Allocation, allocate
from modpo_hpc.launch.profile import Profile
from modpo_hpc.pipeline import STAGES, Stage
from modpo_hpc.stages.workload import (
    BYTES_PER_TOKEN,
    PERSONA_TOKENS,
    QUESTION_TOKENS,
    USED_SHARE_OF_MAX_TOKENS,
    VERDICT_TOKENS,
    Counts,
    Workload,
    prompt_tokens,
    written_by,
)
from modpo_hpc.study import Study
from modpo_hpc.study.judging import Judge


@dataclass(frozen=True)
class StagePlan:
    """One row of the plan; hours, price and wall time are of the shards that are left."""

    stage: str
    needs: tuple[str, ...]
    shards: int
    left: int
    allocation: Allocation
    workload: Workload
    seconds_per_shard: float
    measured: bool
    gpu_hours: float
    gpu_hours_worst: float
    cpu_hours: float
    ends_after_seconds: float
    ends_after_barriers: float
    """The same if each stage waited for the whole of those before it."""
    calls_left: int
    price: float
    disk_bytes: float
    requeues_expected: int


def plan_stages(
    study: Study,
    profile: Profile,
    counts: Counts,
    left: Mapping[str, Collection[str]],
    finished_seconds: Mapping[str, list[float]],
) -> list[StagePlan]:
    """A plan for each stage that has shards in ``study``.

    Args:
        left: stage -> the shards that still have to be made.
        finished_seconds: stage -> seconds of its finished shards, which outrank the speeds of the profile.
    """
    rows: list[StagePlan] = []
    ends: dict[str, dict[str, float]] = {}
    ends_after_barriers: dict[str, float] = {}
    for stage in STAGES:
        shards = len(stage.shards(study))
        begins = max((ends_after_barriers.get(need, 0.0) for need in stage.needs), default=0.0)
        ends_after_barriers[stage.name] = begins
        if not shards:
            continue
        allocation, work = allocate(profile, study, stage), stage.workload(study, counts, profile.speeds)
        measured = finished_seconds.get(stage.name, [])
        estimate = profile.speeds.startup_seconds + work.seconds / shards
        each = statistics.median(measured) if measured else estimate
        open_shards = len(left[stage.name])
        ends[stage.name] = _ends(stage, study, left[stage.name], ends, each, allocation.throttle)
        ends_after_barriers[stage.name] += math.ceil(open_shards / allocation.throttle) * each
        share = open_shards / shards
        gpus = allocation.gpus * allocation.nodes
        attempts_at_worst = 1 + profile.limits.timeouts
        rows.append(
            StagePlan(
                stage=stage.name,
                needs=stage.needs,
                shards=shards,
                left=open_shards,
                allocation=allocation,
                workload=work,
                seconds_per_shard=each,
                measured=bool(measured),
                gpu_hours=open_shards * each * gpus / 3600,
                gpu_hours_worst=open_shards * allocation.minutes * attempts_at_worst * gpus / 60,
                cpu_hours=open_shards * each * allocation.cpus * allocation.nodes / 3600,
                ends_after_seconds=max(ends[stage.name].values()),
                ends_after_barriers=ends_after_barriers[stage.name],
                calls_left=round(work.calls * share),
                price=_price(study, profile, work) * share,
                disk_bytes=work.bytes * share,
                requeues_expected=max(0, math.ceil(each / (allocation.minutes * 60)) - 1) * open_shards,
            )
        )
    return rows


def _ends(
    stage: Stage,
    study: Study,
    left: Collection[str],
    before: Mapping[str, Mapping[str, float]],
    each: float,
    throttle: int,
) -> dict[str, float]:
    """When each shard of a stage is there, in seconds from now: what can begin first does, ``throttle`` at once."""
    ready: dict[str, float] = {}
    items: dict[str, float] = {}
    for shard in stage.shards(study):
        item = stage.item(shard)
        if item not in items:
            needs = stage.needs_of_item(study, item).items()
            read = (
                (need, one) for need, chosen in needs for one in (before.get(need, {}) if chosen is None else chosen)
            )
            items[item] = max((before.get(need, {}).get(one, 0.0) for need, one in read), default=0.0)
        ready[shard] = items[item]
    free = [0.0] * min(throttle, len(ready))
    ends = dict(ready)
    for shard in sorted(set(left) & ready.keys(), key=lambda one: ready[one]):
        ends[shard] = max(ready[shard], free[0]) + each
        heapq.heapreplace(free, ends[shard])
    return ends


def assumptions(study: Study, profile: Profile) -> list[str]:
    """What tokens, hours and price rest on, besides the counts; a sentence each."""
    generation, speeds = study.generation, profile.speeds
    words = USED_SHARE_OF_MAX_TOKENS * generation.responses.max_tokens
    ranking = prompt_tokens(study, study.criteria.rank, "rank")
    said = [
        f"a post has {QUESTION_TOKENS} tokens, a text {words:.0f} ({USED_SHARE_OF_MAX_TOKENS:.0%} of max_tokens), "
        f"a persona {PERSONA_TOKENS}, what the judge is told to rank {ranking:,.0f} (the prompt itself, "
        f"{BYTES_PER_TOKEN:g} characters a token), its verdict {VERDICT_TOKENS} a criterion",
        f"one worker writes {speeds.tokens_per_second:,.0f} tokens a second, trains on "
        f"{speeds.training_tokens_per_second:,.0f}, a reward model reads {speeds.encoder_tokens_per_second:,.0f} "
        f"(a third of that in training), a shard judges {speeds.calls_per_second:g} calls a second, "
        f"{speeds.startup_seconds:g} s to start (speeds of the profile)",
    ]
    if study.panel:
        said.append(
            f"each of {len(study.panel)} judges ({', '.join(study.panel)}) answers every item; calls of all are counted"
        )
    for judge in _paid(study):
        read, written, share = _price_of_tokens(judge, profile)
        said.append(
            f"{judge.model} costs {read:g} for a million tokens read and {written:g} written, "
            f"{judge.price.thinking:,} of thought a call; no discount for what was read before"
            + (f"; the batch interface {share:.0%} of that" if judge.kind == "batch" else "")
        )
    if remote := [name for name, one in study.alignment.policies.items() if one.is_remote]:
        said.append(f"answers of {', '.join(remote)} come from an API and are in no price here")
    return said


def _paid(study: Study) -> list[Judge]:
    from modpo_hpc.judging.kinds import judge_kind

    return [judge for judge in study.judges if judge_kind(judge.kind).paid]


def _price(study: Study, profile: Profile, work: Workload) -> float:
    """Price of the API calls: at the profile's price of each judge, else at the study's own."""
    if not work.calls:
        return 0.0
    judges = len(study.judges)
    calls, criteria = work.calls / judges, work.items / work.calls
    price = 0.0
    for judge in _paid(study):
        read, written, share = _price_of_tokens(judge, profile)
        tokens = work.tokens_read / judges * read + written_by(judge, calls, criteria) * written
        price += share * tokens / 1e6
    return price


def _price_of_tokens(judge: Judge, profile: Profile) -> tuple[float, float, float]:
    """Of a million tokens read, and written; and the share of both that the interface of ``judge`` takes."""
    price = profile.prices.models.get(judge.model)
    if price is None:
        return judge.price.input, judge.price.output, 1.0
    return price.input, price.output, price.batch if judge.kind == "batch" else 1.0
