"""Judge: test personas compare two policies on each test question; half of them see the one first, half the other."""

from __future__ import annotations

from modpo_hpc.data.questions import study_questions
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.judges import ask_judges, ask_judges_until_decided
from modpo_hpc.judging.requests import answers_of, judging_personas, verdict_requests, verdict_shard
from modpo_hpc.judging.tables import verdicts_table, with_judges
from modpo_hpc.run import Run, Shard


def judge(run: Run, shard: Shard) -> None:
    study = run.study
    phase, policy_a, policy_b = verdict_shard(shard.id)
    asked = study.judging.phases[phase].criteria_of_calls
    calls = [load_criteria(study.criteria.files, names) for names in asked]
    answers = {policy: answers_of(run, policy) for policy in (policy_a, policy_b)}
    places, requests = verdict_requests(
        policy_a,
        policy_b,
        shard.block(study_questions(run, "test")),
        judging_personas(run),
        answers,
        calls,
        study.seed,
        study.judging.forced_choice,
    )
    if study.judging.early_stop:
        judgments = ask_judges_until_decided(run, shard, places, requests)
    else:
        judgments = [[*heard] for heard in ask_judges(run, shard, requests)]
    tables = [verdicts_table(phase, policy_a, policy_b, places, heard) for heard in judgments]
    verdicts = with_judges(tables, study.panel)
    shard.write_table(verdicts, verdicts.schema)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("verdicts")
