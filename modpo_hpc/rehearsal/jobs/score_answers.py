"""Stand-in: a reward that is drawn, not learned, for every policy's answer by every criterion."""

from __future__ import annotations

from modpo_hpc.rewards.records import ANSWER_SCORES
from modpo_hpc.run import Run, Shard
from modpo_hpc.seeds import rng_of


def score_answers(run: Run, shard: Shard) -> None:
    answers = shard.block(run.table("answers", ["policy", "question_id"]).to_pylist())
    criteria = run.study.criteria.rank
    rewards = rng_of("stand-in answer scores", run.study.seed, shard.id).normal(size=(len(answers), len(criteria)))
    rows = [
        {**answer, "criterion": criterion, "reward": reward, "reward_raw": round(reward, 6)}
        for answer, of_answer in zip(answers, rewards.tolist(), strict=True)
        for criterion, reward in zip(criteria, of_answer, strict=True)
    ]
    shard.write_table(rows, ANSWER_SCORES)
