"""Stand-in: a reward that is drawn, not learned, for every response by one criterion."""

from __future__ import annotations

import numpy as np

from modpo_hpc.rewards.records import SCORES
from modpo_hpc.run import Run, Shard
from modpo_hpc.seeds import rng_of
from modpo_hpc.stages.stage import before_dot


def score(run: Run, shard: Shard) -> None:
    responses = shard.block(run.table("responses", ["question_id", "response_id"]).to_pylist())
    rewards = rng_of("stand-in scores", run.study.seed, shard.id).normal(size=len(responses))
    rows = [
        {**one, "criterion": before_dot(shard.id), "reward": reward, "reward_raw": rounded}
        for one, reward, rounded in zip(responses, rewards.tolist(), np.round(rewards, 6).tolist(), strict=True)
    ]
    shard.write_table(rows, SCORES)
