"""Score the answers: what every policy says to the test questions, by every criterion's final reward model."""

from __future__ import annotations

from modpo_hpc.data.questions import study_questions
from modpo_hpc.rewards.calibration import scales
from modpo_hpc.rewards.records import ANSWER_SCORES
from modpo_hpc.rewards.scoring import score_block
from modpo_hpc.run import Run, Shard


def score_answers(run: Run, shard: Shard) -> None:
    """Raw rewards, and the same on the study's scale. The final models saw all training questions, but no test one."""
    questions = {one.question_id: one.text for one in study_questions(run, "test")}
    answers = run.table("answers", ["policy", "question_id", "text"]).to_pylist()
    texts = {str(at): one["text"] for at, one in enumerate(answers)}
    question_of = {str(at): one["question_id"] for at, one in enumerate(answers)}
    scale_of = scales(run.table("rewards").to_pandas(), run.study)
    order = {criterion: at for at, criterion in enumerate(run.study.criteria.rank)}
    scored = score_block(
        run, shard, run.study.criteria.rank, questions, texts, question_of, dict.fromkeys(texts, "final")
    )
    rows = [
        {
            "policy": answers[int(answer)]["policy"],
            "question_id": question_of[answer],
            "criterion": criterion,
            "reward": scale_of[criterion, part].apply(raw),
            "reward_raw": raw,
        }
        for answer, criterion, part, raw in sorted(scored, key=lambda one: (int(one[0]), order[one[1]]))
    ]
    shard.write_table(rows, ANSWER_SCORES)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("answer_scores")
