"""Rank: training personas put the responses to each training question in order, by each criterion."""

from __future__ import annotations

from modpo_hpc.data.questions import study_questions
from modpo_hpc.judging.assignments import assign_personas
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.judges import ask_judges
from modpo_hpc.judging.requests import ranking_requests, responses_by_question, study_personas
from modpo_hpc.judging.tables import rankings_table, with_judges
from modpo_hpc.run import Run, Shard
from modpo_hpc.study.judging import criteria_of_calls


def rank(run: Run, shard: Shard) -> None:
    study = run.study
    questions, personas = study_questions(run, "train"), study_personas(run, "train")
    assigned = assign_personas(
        [question.question_id for question in questions],
        [persona.persona_id for persona in personas],
        study.ranking.personas_per_question,
        study.seed,
    )
    calls = criteria_of_calls(study.criteria.rank, study.ranking.calls)
    asked = [load_criteria(study.criteria.files, names) for names in calls]
    places, requests = ranking_requests(
        shard.block(questions), assigned, personas, responses_by_question(run), asked, study.seed
    )
    tables = [rankings_table(places, heard) for heard in ask_judges(run, shard, requests)]
    rankings = with_judges(tables, study.panel)
    shard.write_table(rankings, rankings.schema)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("rankings")
