"""Stand-in: a reward that is drawn, not learned, for every response by one criterion."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from modpo_hpc.run import Run, Shard
from modpo_hpc.seeds import rng_of
from modpo_hpc.stages.stage import before_dot

SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("response_id", pa.string()),
        ("criterion", pa.string()),
        ("reward", pa.float64()),
        ("reward_raw", pa.float64()),
    ]
)


def score(run: Run, shard: Shard) -> None:
    responses = shard.block(run.table("responses", ["question_id", "response_id"]).to_pylist())
    rewards = rng_of("stand-in scores", run.study.seed, shard.id).normal(size=len(responses))
    table = {
        "question_id": [one["question_id"] for one in responses],
        "response_id": [one["response_id"] for one in responses],
        "criterion": [before_dot(shard.id)] * len(responses),
        "reward": rewards,
        "reward_raw": np.round(rewards, 6),
    }
    shard.write_table(pa.table(table), SCHEMA)
