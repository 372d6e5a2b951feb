"""Responses: several from the base model to every training question, for the personas to rank."""

from __future__ import annotations

from modpo_hpc.data.questions import study_questions
from modpo_hpc.generation.groups import complete_groups
from modpo_hpc.generation.open import policy_engine
from modpo_hpc.generation.plan import groups_of, response_requests
from modpo_hpc.generation.records import RESPONSES, count_flags, row_of
from modpo_hpc.run import Run, Shard


def generate(run: Run, shard: Shard) -> None:
    """Sample the responses of this shard's questions."""
    sampling = run.study.generation.responses
    requests = response_requests(run, study_questions(run, "train"))
    groups = shard.block(groups_of(requests, sampling.batch_size))
    made = complete_groups(shard, groups, lambda: policy_engine(shard, None, sampling))
    rows = [{"response_id": request.id, **row_of(request, one)} for request, one in made]
    shard.metrics.update(count_flags(rows))
    shard.write_table(rows, RESPONSES)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("responses")
