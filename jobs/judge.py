"""Judge: test personas compare two policies on each test question; half of them see the one first, half the other."""

from __future__ import annotations

from modpo_hpc.data.questions import study_questions
from modpo_hpc.evaluation.sequential_design import PersonaGroups, groups_of_personas, stopping_rule
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.exact_stop import ExactStop
from modpo_hpc.judging.judges import ask_judges, ask_judges_until_decided
from modpo_hpc.judging.requests import (
    answers_of,
    judging_rounds,
    verdict_requests,
    verdict_shard,
)
from modpo_hpc.judging.sequential_stop import SequentialStop
from modpo_hpc.judging.tables import verdicts_table, with_judges
from modpo_hpc.run import Run, Shard


def judge(run: Run, shard: Shard) -> None:
    study = run.study
    phase, policy_a, policy_b = verdict_shard(shard.id)
    asked = study.judging.phases[phase].criteria_of_calls
    calls = [load_criteria(study.criteria.files, names) for names in asked]
    answers = {policy: answers_of(run, policy) for policy in (policy_a, policy_b)}
    forced = study.judging.forced_choice
    rounds = [
        verdict_requests(policy_a, policy_b, panels, answers, calls, study.seed, forced)
        for panels in judging_rounds(run, shard.block(study_questions(run, "test")))
    ]
    places = [place for of_round, _ in rounds for place in of_round]
    requests = [request for _, of_round in rounds for request in of_round]
    if study.judging.stop == "exact":
        exact = ExactStop([*places] * len(study.judges), len(asked[0]))
        judgments = ask_judges_until_decided(run, shard, requests, exact)
    elif study.judging.stop == "sequential":
        sizes, groups = [len(of_round) for of_round, _ in rounds], PersonaGroups.of(groups_of_personas(run))
        rule = stopping_rule(study, phase, len({place.question_id for place in places}))
        sequential = SequentialStop(places, sizes, groups, rule)
        judgments = ask_judges_until_decided(run, shard, requests, sequential, sizes)
    else:
        judgments = [[*heard] for heard in ask_judges(run, shard, requests)]
    tables = [verdicts_table(phase, policy_a, policy_b, places, heard) for heard in judgments]
    verdicts = with_judges(tables, study.panel)
    shard.write_table(verdicts, verdicts.schema)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("verdicts")
