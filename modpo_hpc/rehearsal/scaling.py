"""Where it would hurt at ten and a hundred times the size: pure arithmetic on what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modpo_hpc.pipeline import stage_named
from modpo_hpc.rehearsal.measure import StageCost

DIMENSIONS = ("questions", "personas", "policies")
BASE_MEMORY_GB = 0.25
MEMORY_LIMIT_GB, SECONDS_LIMIT, SHARDS_LIMIT, BYTES_LIMIT = 16.0, 6 * 3600.0, 10_000, 2e11


@dataclass(frozen=True)
class Prediction:
    """One stage with one dimension ``factor`` times as large."""

    stage: str
    dimension: str
    factor: int
    shards: int
    seconds_a_shard: float
    memory_gb: float
    bytes: float
    pains: tuple[str, ...]


def predict(cost: StageCost, dimension: str, factor: int) -> Prediction:
    """Work, memory above an empty process, and bytes grow together; shards grow where the study makes more of them."""
    growth = stage_named(cost.stage).growth
    power: int = getattr(growth, dimension)
    more_work = factor**power
    more_shards = factor**growth.shards if dimension == "policies" else 1
    each = more_work / more_shards
    memory = BASE_MEMORY_GB + max(0.0, cost.peak_memory_gb - BASE_MEMORY_GB) * each
    own_longest = cost.longest_seconds * (cost.own_seconds / cost.seconds if cost.seconds else 0.0)
    seconds, shards, size = own_longest * each, cost.shards * more_shards, cost.bytes * more_work
    pains = [
        f"{memory:.0f} GB in one process" if memory > MEMORY_LIMIT_GB else "",
        f"{seconds / 3600:.0f} h of our own code in one shard" if seconds > SECONDS_LIMIT else "",
        f"{shards:,} shards" if shards > SHARDS_LIMIT else "",
        f"{size / 1e9:.0f} GB on disk" if size > BYTES_LIMIT else "",
    ]
    return Prediction(cost.stage, dimension, factor, shards, seconds, memory, size, tuple(one for one in pains if one))


def pains(costs: Sequence[StageCost], factors: Sequence[int] = (10, 100)) -> list[Prediction]:
    """Every stage, dimension and factor at which a limit is passed, the mildest first."""
    found = [predict(cost, dimension, factor) for factor in factors for dimension in DIMENSIONS for cost in costs]
    return [one for one in found if one.pains]
