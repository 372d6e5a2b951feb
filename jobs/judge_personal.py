"""Judge what is personal: test personas rank the candidates of questions that taught nobody's weights."""

from __future__ import annotations

from modpo_hpc.personalization.material import ask, testing_questions
from modpo_hpc.run import Run, Shard


def judge_personal(run: Run, shard: Shard) -> None:
    wanted = run.study.personalization
    assert wanted is not None
    rankings = ask(run, shard, shard.block(testing_questions(run)), wanted.criteria_of_calls)
    shard.write_table(rankings, rankings.schema)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("personal_verdicts")
