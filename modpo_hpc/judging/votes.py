"""Votes: many persona rankings of a question become one preference pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modpo_hpc.seeds import seed_of


@dataclass(frozen=True)
class VoteCount:
    """What became of the questions of one criterion.

    ``ties_broken`` counts pairs in which the best or the worst response had an equal; ``undecided`` questions gave
    all responses the same score, ``unvoted`` ones had no usable ranking: neither makes a pair.
    """

    pairs: int
    ties_broken: int
    undecided: int
    unvoted: int
    ballots: int
    unparsed: int


def scores(orders: Sequence[Sequence[str]], responses: Sequence[str], weights: Sequence[int]) -> np.ndarray:
    """Score of each of ``responses``, int64: the sum over ``orders`` (best first) of the weight of its rank."""
    position = {response: place for place, response in enumerate(responses)}
    total = np.zeros(len(responses), dtype=np.int64)
    for order in orders:
        for response, weight in zip(order, weights, strict=True):
            total[position[response]] += weight
    return total


def vote(
    criterion: str,
    responses: Mapping[str, Sequence[str]],
    rankings: pd.DataFrame,
    weights: Sequence[int],
    seed: int,
) -> tuple[list[dict[str, object]], VoteCount]:
    """The pairs of one criterion, one a question at most, in the order of ``responses``, and what was counted.

    Args:
        responses: question id -> response ids.
        rankings: columns question_id, order (response ids, best first) and state; rows that are not "ok" cast no
            vote.
        weights: vote of each rank, best first.
        seed: of the draw between responses with equal scores.
    """
    usable = rankings[rankings["state"] == "ok"]
    ballots = usable.groupby("question_id", observed=True)["order"].agg(list).to_dict()
    pairs: list[dict[str, object]] = []
    ties = undecided = unvoted = 0
    for question_id, shown in responses.items():
        orders = ballots.get(question_id, [])
        if not orders:
            unvoted += 1
            continue
        score = scores(orders, shown, weights)
        if score.max() == score.min():
            undecided += 1
            continue
        best, worst = np.nonzero(score == score.max())[0], np.nonzero(score == score.min())[0]
        ties += len(best) > 1 or len(worst) > 1
        chosen, rejected = (
            shown[places[seed_of(seed, "vote", criterion, question_id, end) % len(places)]]
            for end, places in (("best", best), ("worst", worst))
        )
        pairs.append(
            {
                "criterion": criterion,
                "question_id": question_id,
                "chosen": chosen,
                "rejected": rejected,
                "responses": list(shown),
                "votes": score.tolist(),
                "margin": int(score.max() - score.min()),
            }
        )
    return pairs, VoteCount(len(pairs), ties, undecided, unvoted, len(usable), len(rankings) - len(usable))
