"""Vote: the rankings of a question are weighed and summed; the best response is preferred to the worst."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow.compute as pc

from modpo_hpc.judging.requests import responses_by_question
from modpo_hpc.judging.tables import PAIRS
from modpo_hpc.judging.votes import vote as count_votes
from modpo_hpc.rewards.loading import check_pairs
from modpo_hpc.run import Run, Shard


def vote(run: Run, shard: Shard) -> None:
    criterion = shard.id
    table = run.table("rankings", ["question_id", "criterion", "order", "state"])
    rankings = table.filter(pc.equal(table["criterion"].cast("string"), criterion)).to_pandas()
    responses = {
        question_id: [response_id for response_id, _ in given]
        for question_id, given in responses_by_question(run).items()
    }
    pairs, count = count_votes(criterion, responses, rankings, run.study.ranking.weights, run.study.seed)
    shard.metrics.update(asdict(count))
    check_pairs(run, criterion, pairs, tied=count.undecided)
    shard.write_table(pairs, PAIRS)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("pairs")
