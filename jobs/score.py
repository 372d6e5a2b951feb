"""Score the responses: each by a criterion's reward models, by default that of the fold without its question."""

from __future__ import annotations

from modpo_hpc.rewards.calibration import scales
from modpo_hpc.rewards.loading import folds_of
from modpo_hpc.rewards.records import SCORES, read_texts
from modpo_hpc.rewards.scoring import score_block
from modpo_hpc.run import Run, Shard
from modpo_hpc.stages.stage import before_dot


def score(run: Run, shard: Shard) -> None:
    """Raw rewards by one criterion, and the same on the study's scale."""
    criterion = before_dot(shard.id)
    texts = read_texts(run)
    scale_of = scales(run.table("rewards").to_pandas(), run.study)
    question_of = {one: question for question, ids in texts.responses_of.items() for one in ids}
    folds = folds_of(run, texts)
    by_folds = run.study.rewards.score_with == "folds"
    scored_by = {one: f"fold{folds[question]}" if by_folds else "final" for one, question in question_of.items()}
    rows = [
        {
            "question_id": question_of[response],
            "response_id": response,
            "criterion": criterion,
            "reward": scale_of[criterion, part].apply(raw),
            "reward_raw": raw,
        }
        for response, _, part, raw in score_block(
            run, shard, [criterion], texts.questions, texts.responses, question_of, scored_by
        )
    ]
    place = {one: at for at, one in enumerate(question_of)}
    shard.write_table(sorted(rows, key=lambda row: place[row["response_id"]]), SCORES)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("scores")
