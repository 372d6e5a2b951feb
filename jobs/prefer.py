"""Prefer: test personas rank the responses to a few training questions as they like them, to teach their weights."""

from __future__ import annotations

from modpo_hpc.personalization.material import ask, teaching_questions
from modpo_hpc.run import Run, Shard


def prefer(run: Run, shard: Shard) -> None:
    wanted = run.study.personalization
    assert wanted is not None
    rankings = ask(run, shard, shard.block(teaching_questions(run)), [(wanted.preference,)])
    shard.write_table(rankings, rankings.schema)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("preferences")
