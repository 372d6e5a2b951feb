"""Judge: test personas compare two policies on each test question; half of them see the one first, half the other."""

from __future__ import annotations

from modpo_hpc.data.questions import study_questions
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.judges import ask_judge, ask_until_decided
from modpo_hpc.judging.requests import answers_of, judging_personas, verdict_requests, verdict_shard
from modpo_hpc.judging.tables import VERDICTS, verdicts_table
from modpo_hpc.run import Run, Shard


def judge(run: Run, shard: Shard) -> None:
    study = run.study
    phase, policy_a, policy_b = verdict_shard(study, shard.id)
    names = study.judging.phases[phase].criteria
    criteria = load_criteria(study.criteria.files, names)
    answers = {policy: answers_of(run, policy) for policy in (policy_a, policy_b)}
    places, requests = verdict_requests(
        policy_a,
        policy_b,
        shard.block(study_questions(run, "test")),
        judging_personas(run),
        answers,
        criteria,
        study.seed,
    )
    if study.judging.early_stop:
        judgments = ask_until_decided(run, shard, places, requests)
    else:
        judgments = [*ask_judge(run, shard, requests)]
    shard.write_table(verdicts_table(phase, policy_a, policy_b, places, names, judgments), VERDICTS)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("verdicts")
