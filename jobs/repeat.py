"""Repeat: the judge is asked a sample of the verdicts again, and once more in the other order of showing."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from modpo_hpc.data.questions import study_questions
from modpo_hpc.evaluation.self_agreement import CELL, PAIR, rows_of
from modpo_hpc.evaluation.tables import REPEATS_SCHEMAS
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.judges import ask_judges
from modpo_hpc.judging.repeats import Asking, askings
from modpo_hpc.judging.requests import judging_rounds
from modpo_hpc.judging.settings import all_in_force
from modpo_hpc.judging.tables import JUDGE, as_asked, verdicts_table, with_judges
from modpo_hpc.judging.tasks import SIDES
from modpo_hpc.run import Run, Shard


def repeat(run: Run, shard: Shard) -> None:
    study = run.study
    panels = [one for panels in judging_rounds(run, study_questions(run, "test")) for one in panels]
    asked: list[Asking] = []
    for phase, settings in study.judging.phases.items():
        calls = [load_criteria(study.criteria.files, names) for names in settings.criteria_of_calls]
        for policy_a, policy_b in settings.pairs:
            asked += askings(run, phase, policy_a, policy_b, panels, calls)
    heard = ask_judges(run, shard, [request for one in asked for request in one.requests])
    tables, start = [], 0
    for one in asked:
        end = start + len(one.requests)
        mine = [
            verdicts_table(one.phase, one.policy_a, one.policy_b, one.places, judgments[start:end])
            for judgments in heard
        ]
        tables.append(as_asked(with_judges(mine, study.panel), one.sample, one.swapped))
        start = end
    repeats = pa.concat_tables(tables).unify_dictionaries()
    shard.write_table(repeats, repeats.schema)

    names = study.panel or tuple(one.name or one.model for one in all_in_force(study.judges))
    cell = [*CELL, *PAIR]
    stored = [name for name in cell if study.panel or name != JUDGE.name]
    verdicts = run.table("verdicts", [*stored, "winner"]).to_pandas()
    found = repeats.to_pandas()
    for table in (verdicts, found):
        if not study.panel:
            table.insert(0, JUDGE.name, names[0])
    cast = verdicts[verdicts["winner"].isin(SIDES["judge"])]
    votes = Counter(cast[cell].astype(str).itertuples(index=False, name=None))
    rows = rows_of(found, votes, study.statistics.confidence)
    for (name, schema), of_table in zip(REPEATS_SCHEMAS.items(), rows, strict=True):
        shard.write_table(of_table, schema, name=name)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("repeats")
