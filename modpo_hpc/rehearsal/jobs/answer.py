"""Stand-in: the stage's own plan, journal and table around texts that no model made."""

from __future__ import annotations

from modpo_hpc.data.questions import study_questions
from modpo_hpc.generation.groups import complete_groups
from modpo_hpc.generation.plan import answer_requests, groups_of
from modpo_hpc.generation.records import ANSWERS, count_flags, row_of
from modpo_hpc.rehearsal.standins import composing_engine
from modpo_hpc.run import Run, Shard


def answer(run: Run, shard: Shard) -> None:
    policy = shard.id.rpartition(".")[0]
    requests = answer_requests(run, policy, study_questions(run, "test"))
    groups = shard.block(groups_of(requests, run.study.generation.answers.batch_size))
    made = complete_groups(shard, groups, lambda: composing_engine(shard))
    rows = [{"policy": policy, **row_of(request, one)} for request, one in made]
    shard.metrics.update(count_flags(rows))
    shard.write_table(rows, ANSWERS)
