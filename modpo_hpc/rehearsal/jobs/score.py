"""Stand-in: a reward that is drawn, not learned, for every response by every criterion."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from modpo_hpc.data.questions import study_questions
from modpo_hpc.generation.plan import response_requests
from modpo_hpc.run import Run, Shard
from modpo_hpc.seeds import rng_of

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
    requests = shard.block(response_requests(run, study_questions(run, "train")))
    criteria = run.study.criteria.rank
    rewards = rng_of("stand-in scores", run.study.seed, shard.id).normal(size=len(requests) * len(criteria))
    table = {
        "question_id": [one.question_id for one in requests for _ in criteria],
        "response_id": [one.id for one in requests for _ in criteria],
        "criterion": list(criteria) * len(requests),
        "reward": rewards,
        "reward_raw": np.round(rewards, 6),
    }
    shard.write_table(pa.table(table), SCHEMA)
