"""Score the responses: every response by every criterion's reward model, of the fold that did not see the question."""

from __future__ import annotations

from modpo_hpc.rewards.calibration import scales
from modpo_hpc.rewards.loading import folds_of
from modpo_hpc.rewards.records import SCORES, read_texts
from modpo_hpc.rewards.scoring import score_block
from modpo_hpc.run import Run, Shard


def score(run: Run, shard: Shard) -> None:
    """Raw rewards, and the same on the study's scale."""
    texts = read_texts(run)
    scale_of = scales(run.table("rewards").to_pandas(), run.study.rewards.scale)
    question_of = {one: question for question, ids in texts.responses_of.items() for one in ids}
    folds = folds_of(run, texts)
    unseen_by = {one: f"fold{folds[question]}" for one, question in question_of.items()}
    rows = [
        {
            "question_id": question_of[response],
            "response_id": response,
            "criterion": criterion,
            "reward": scale_of[criterion, part].apply(raw),
            "reward_raw": raw,
        }
        for response, criterion, part, raw in score_block(
            run, shard, texts.questions, texts.responses, question_of, unseen_by
        )
    ]
    place = {one: at for at, one in enumerate(question_of)}
    order = {criterion: at for at, criterion in enumerate(run.study.criteria.rank)}
    shard.write_table(sorted(rows, key=lambda row: (place[row["response_id"]], order[row["criterion"]])), SCORES)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("scores")
