"""Answers: one from every policy to every test question, under the prompt that all policies share."""

from __future__ import annotations

from modpo_hpc.data.questions import study_questions
from modpo_hpc.generation.groups import complete_groups
from modpo_hpc.generation.open import policy_engine
from modpo_hpc.generation.plan import answer_requests, groups_of
from modpo_hpc.generation.records import ANSWERS, count_flags, row_of
from modpo_hpc.rewards.choice import best_of
from modpo_hpc.run import Run, Shard


def answer(run: Run, shard: Shard) -> None:
    """Let one policy answer this shard's test questions."""
    policy = shard.id.rpartition(".")[0]
    sampling = run.study.generation.answers
    requests = answer_requests(run, policy, study_questions(run, "test"))
    groups = shard.block(groups_of(requests, sampling.batch_size))
    made = complete_groups(shard, groups, lambda: policy_engine(shard, policy, sampling))
    if criteria := run.study.alignment.policies[policy].chosen_by:
        texts = {request.id: one.text for request, one in made}
        best = best_of(run, shard, criteria, texts, {request.id: request.question_id for request, _ in made})
        made = [(request, one) for request, one in made if request.id in best]
    rows = [{"policy": policy, **row_of(request, one)} for request, one in made]
    shard.metrics.update(count_flags(rows))
    shard.write_table(rows, ANSWERS)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("answers")
