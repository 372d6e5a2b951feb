"""Votes: rankings become pairs by weight, and no pair comes from nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.judging.votes import scores, vote

WEIGHTS = (10, 5, 0, -5, -10)
IDS = [f"q.r{place}" for place in range(5)]


def table(orders: list[list[str]], state: str = "ok") -> pd.DataFrame:
    return pd.DataFrame({"question_id": "q", "order": orders, "state": state})


@given(st.lists(st.permutations(IDS), min_size=1, max_size=20))
def test_scores_are_what_counting_by_hand_gives(orders: list[list[str]]) -> None:
    ranks = pd.DataFrame([{one: order.index(one) for one in IDS} for order in orders])
    by_hand = ranks.map(lambda rank: WEIGHTS[rank]).sum()[IDS]
    assert scores(orders, IDS, WEIGHTS).tolist() == by_hand.tolist()
    assert by_hand.sum() == 0


def test_ten_responses() -> None:
    ids = [str(place) for place in range(10)]
    assert scores([ids], ids, range(45, -46, -10)).tolist() == [45, 35, 25, 15, 5, -5, -15, -25, -35, -45]


@given(st.lists(st.permutations(IDS), min_size=1, max_size=9), st.integers(0, 99))
def test_a_pair_is_a_best_and_a_worst_response(orders: list[list[str]], seed: int) -> None:
    pairs, count = vote("empathy", {"q": IDS}, table(orders), WEIGHTS, seed)
    if count.undecided:
        assert not pairs
        return
    (pair,) = pairs
    votes = dict(zip(IDS, pair["votes"], strict=True))
    assert votes[pair["chosen"]] == max(votes.values())
    assert votes[pair["rejected"]] == min(votes.values())
    assert pair["margin"] == max(votes.values()) - min(votes.values())
    tied = list(votes.values()).count(max(votes.values())) > 1 or list(votes.values()).count(min(votes.values())) > 1
    assert count.ties_broken == tied


def test_ties_are_broken_by_the_seed_and_favour_no_place() -> None:
    swapped = [IDS, [IDS[1], IDS[0], *IDS[2:]]]
    chosen = [vote("c", {"q": IDS}, table(swapped), WEIGHTS, seed)[0][0]["chosen"] for seed in range(400)]
    assert chosen == [vote("c", {"q": IDS}, table(swapped), WEIGHTS, seed)[0][0]["chosen"] for seed in range(400)]
    assert set(chosen) == {IDS[0], IDS[1]}
    assert abs(np.mean([one == IDS[0] for one in chosen]) - 0.5) < 0.1


def test_no_votes_no_pair() -> None:
    unparsed = table([[]], state="unparsed")
    pairs, count = vote("empathy", {"q": IDS, "other": IDS}, unparsed, WEIGHTS, 1)
    assert pairs == []
    assert (count.unvoted, count.unparsed, count.ballots) == (2, 1, 0)
