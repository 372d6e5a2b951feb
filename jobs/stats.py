"""Turn verdicts into the tables of the paper: win rates, McNemar's tests, rankings, and how sure they are."""

from __future__ import annotations

import json

from modpo_hpc.core.snapshots import judges_of
from modpo_hpc.data.questions import study_questions
from modpo_hpc.evaluation import analysis, ballots, sequential, tables
from modpo_hpc.evaluation.completeness import completeness, refuse_incomplete, refuse_mixed
from modpo_hpc.evaluation.non_inferiority import non_inferiority_rows
from modpo_hpc.evaluation.panel import tables_of_panel
from modpo_hpc.evaluation.phase import answer_lengths, prepare
from modpo_hpc.evaluation.sequential_design import groups_of_personas
from modpo_hpc.judging.settings import models_asked
from modpo_hpc.run import Run, Shard


def stats(run: Run, shard: Shard) -> None:
    study, mark = run.study, run.sandbox_mark
    mixed = judges_of(run, "verdicts")
    if not study.statistics.mixed_judges:
        refuse_mixed(mixed, str(run.root))
    questions = [question.question_id for question in study_questions(run, "test")]
    people = {row["persona_id"]: row for row in run.table("personas").to_pylist() if row["split"] == "test"}
    answers = run.table("answers", ["policy", "question_id", "tokens"])
    phases = ballots.collect_phases(run, questions, tuple(people))
    cells = [cell for phase in phases for cell in completeness(phase)]
    shard.write_table([cell.row() for cell in cells], tables.SCHEMAS["completeness"], name="completeness")
    refuse_incomplete(cells, study.statistics.max_missing, str(run.root))

    schemas = tables.schemas_of(study)
    made: dict[str, tables.Rows] = {name: [] for name in schemas}
    summary = analysis.summary_of(run.study, mark, models_asked(run.study), mixed)
    for number, one in enumerate(phases):
        if study.judging.stop == "sequential":
            found = sequential.tables_of(one, groups_of_personas(run), study)
            summary["phases"][one.phase] = sequential.phase_summary(one, study)
        else:
            lengths = answer_lengths(answers, one.policies, questions)
            phase = prepare(one, study.statistics, study.seed, lengths, people)
            found = {**analysis.tables_of(phase), **tables_of_panel(phase)}
            rates, reference = found["win_rates"], study.reference(one.phase)
            found["non_inferiority"] = non_inferiority_rows(rates, reference, study.statistics)
            summary["phases"][one.phase] = analysis.phase_summary(phase)
        for name, rows in found.items():
            made[name] += rows
        shard.progress(number + 1, len(phases), "phases")
    for name, rows in made.items():
        shard.write_table(rows, schemas[name], name=name)
        with shard.file(f"{name}.csv") as stream:
            tables.write_csv(stream, name, rows, mark)
    with shard.file("statistics.json") as stream:
        json.dump(summary, stream, indent=1)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("statistics")
