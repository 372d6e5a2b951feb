"""The best of several texts for a question, by the weighted rewards of some criteria."""

from __future__ import annotations

from collections.abc import Mapping

from modpo_hpc.data.questions import study_questions
from modpo_hpc.rewards.calibration import scales
from modpo_hpc.rewards.scoring import score_block
from modpo_hpc.run import Run, Shard


def best_of(
    run: Run, shard: Shard, criteria: Mapping[str, float], texts: Mapping[str, str], question_of: Mapping[str, str]
) -> set[str]:
    """Of the texts for each test question the one with the largest sum of ``criteria``'s weights times final rewards.

    Rewards are on the study's scale. Of texts with equal sums the first is taken.

    Args:
        texts: id -> text.
        question_of: id -> question id.
    """
    questions = {one.question_id: one.text for one in study_questions(run, "test")}
    scale_of = scales(run.table("rewards").to_pandas(), run.study)
    rewards = dict.fromkeys(texts, 0.0)
    scored = score_block(
        run, shard, tuple(criteria), questions, texts, question_of, dict.fromkeys(texts, "final"), in_blocks=False
    )
    for text, criterion, part, raw in scored:
        rewards[text] += criteria[criterion] * scale_of[criterion, part].apply(raw)
    best: dict[str, str] = {}
    for text in texts:
        rival = best.setdefault(question_of[text], text)
        if rewards[text] > rewards[rival]:
            best[question_of[text]] = text
    return set(best.values())
