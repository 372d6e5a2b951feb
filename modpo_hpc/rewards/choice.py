"""The best of several answers to a question, by the weighted rewards of some criteria."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modpo_hpc.data.questions import study_questions
from modpo_hpc.generation.records import Completion, Request
from modpo_hpc.rewards.calibration import scales
from modpo_hpc.rewards.scoring import score_block
from modpo_hpc.run import Run, Shard

Made = Sequence[tuple[Request, Completion]]


def best_of(run: Run, shard: Shard, criteria: Mapping[str, float], made: Made) -> list[tuple[Request, Completion]]:
    """Of the answers to each question the one with the largest sum of ``criteria``'s weights times final rewards.

    Rewards are on the study's scale. Of answers with equal sums the first is taken.
    """
    questions = {one.question_id: one.text for one in study_questions(run, "test")}
    texts = {request.id: completion.text for request, completion in made}
    question_of = {request.id: request.question_id for request, _ in made}
    scale_of = scales(run.table("rewards").to_pandas(), run.study)
    rewards = dict.fromkeys(texts, 0.0)
    scored = score_block(
        run, shard, tuple(criteria), questions, texts, question_of, dict.fromkeys(texts, "final"), in_blocks=False
    )
    for text, criterion, part, raw in scored:
        rewards[text] += criteria[criterion] * scale_of[criterion, part].apply(raw)
    best: dict[str, tuple[Request, Completion]] = {}
    for request, completion in made:
        rival = best.get(request.question_id)
        if rival is None or rewards[request.id] > rewards[rival[0].id]:
            best[request.question_id] = (request, completion)
    return [(replace(request, id=question), completion) for question, (request, completion) in best.items()]
