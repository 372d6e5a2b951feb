"""Answers: one from every policy to every test question, under the prompt that all policies share."""

from __future__ import annotations

from modpo_hpc.data.questions import study_questions
from modpo_hpc.generation.groups import complete_groups
from modpo_hpc.generation.open import policy_engine
from modpo_hpc.generation.plan import answer_requests, corrections_of, groups_of
from modpo_hpc.generation.records import ANSWERS, count_flags, row_of
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.rewards.choice import best_of
from modpo_hpc.run import Run, Shard


def answer(run: Run, shard: Shard) -> None:
    """Let one policy answer this shard's test questions, or correct what another answers to them."""
    name = shard.id.rpartition(".")[0]
    policy, sampling = run.study.alignment.policies[name], run.study.generation.answers
    first = policy.drafts_of or name
    requests = answer_requests(run, first, study_questions(run, "test"))
    groups = shard.block(groups_of(requests, sampling.batch_size))
    if policy.drafts_of:
        drafts = complete_groups(shard, groups, lambda: policy_engine(shard, first, sampling), "drafts.jsonl")
        criteria = load_criteria(run.study.criteria.files, policy.corrects_by)
        groups = corrections_of(run, name, groups, {one.id: one.text for _, one in drafts}, criteria)
    made = complete_groups(shard, groups, lambda: policy_engine(shard, name, sampling))
    if policy.chosen_by:
        texts = {request.id: one.text for request, one in made}
        best = best_of(run, shard, policy.chosen_by, texts, {request.id: request.question_id for request, _ in made})
        made = [(request, one) for request, one in made if request.id in best]
    rows = [{"policy": name, **row_of(request, one)} for request, one in made]
    shard.metrics.update(count_flags(rows))
    shard.write_table(rows, ANSWERS)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("answers")
