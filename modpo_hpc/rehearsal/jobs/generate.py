"""Stand-in: the stage's own plan, journal and table around texts that no model made."""

from __future__ import annotations

from modpo_hpc.data.questions import study_questions
from modpo_hpc.generation.groups import complete_groups
from modpo_hpc.generation.plan import groups_of, response_requests
from modpo_hpc.generation.records import RESPONSES, count_flags, row_of
from modpo_hpc.rehearsal.standins import composing_engine
from modpo_hpc.run import Run, Shard


def generate(run: Run, shard: Shard) -> None:
    requests = response_requests(run, study_questions(run, "train"))
    groups = shard.block(groups_of(requests, run.study.generation.responses.batch_size))
    made = complete_groups(shard, groups, lambda: composing_engine(shard))
    rows = [{"response_id": request.id, **row_of(request, one)} for request, one in made]
    shard.metrics.update(count_flags(rows))
    shard.write_table(rows, RESPONSES)
