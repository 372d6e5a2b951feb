"""Majorities, win rates, rankings and trade-offs against a plain count."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modpo_hpc.evaluation import pareto, winrates

votes_of = arrays.arrays(
    np.int8,
    st.tuples(st.integers(1, 2), st.just(6), st.integers(1, 8), st.integers(1, 7)),
    elements=st.sampled_from([-1, 0, 1]),
)


@given(votes_of)
def test_win_rates_are_those_of_a_plain_count(votes: np.ndarray) -> None:
    wins = winrates.count_wins(winrates.majorities(votes))
    for c in range(votes.shape[0]):
        for p in range(6):
            plain: Counter[str] = Counter()
            for question in votes[c, p]:
                a, b = list(question).count(1), list(question).count(-1)
                plain["a" if a > b else "b" if b > a else "tie"] += 1
            assert (wins.a[c, p], wins.b[c, p], wins.ties[c, p]) == (plain["a"], plain["b"], plain["tie"])
            questions = votes.shape[2]
            none_a, _ = wins.rates("none")
            half_a, half_b = wins.rates("half")
            assert none_a[c, p] == plain["a"] / questions
            assert half_a[c, p] == (plain["a"] + plain["tie"] / 2) / questions
            assert half_a[c, p] + half_b[c, p] == pytest.approx(1)


@given(votes_of)
def test_swapping_the_two_names_swaps_the_wins(votes: np.ndarray) -> None:
    ours, swapped = (winrates.count_wins(winrates.majorities(one)) for one in (votes, -votes))
    np.testing.assert_array_equal(ours.a, swapped.b)
    np.testing.assert_array_equal(ours.ties, swapped.ties)


def test_averages_take_each_opponent_once() -> None:
    rates = {pair: 0.1 * number for number, pair in enumerate(combinations("wxyz", 2), start=1)}
    a = np.array(list(rates.values()))
    average = winrates.average_rates(a, 1 - a, 4)
    for place, policy in enumerate("wxyz"):
        mine = [rate if pair[0] == policy else 1 - rate for pair, rate in rates.items() if policy in pair]
        assert average[place] == pytest.approx(sum(mine) / 3)
    assert list(winrates.ranks(np.array([0.3, 0.7, 0.3, 0.1]))) == [2, 1, 2, 4]


@given(arrays.arrays(np.int64, 21, elements=st.integers(0, 20)))
def test_as_many_wins_are_the_same_rank(won: np.ndarray) -> None:
    """Ranks by rates are those by whole numbers of wins, whatever the order in which the rates are added."""
    wins = np.zeros(7, dtype=int)
    for (a, b), number in zip(combinations(range(7), 2), won, strict=True):
        wins[a] += number
        wins[b] += 20 - number
    ranked = winrates.ranks(winrates.average_rates(won / 20, 1 - won / 20, 7))
    assert ranked.tolist() == [1 + int((wins > mine).sum()) for mine in wins]


@settings(max_examples=50)
@given(st.integers(1, 3).flatmap(lambda d: st.lists(st.tuples(*[st.integers(0, 6)] * d), min_size=1, max_size=8)))
def test_hypervolume_and_front_by_counting_unit_cells(points: list[tuple[int, ...]]) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(6)] * len(points[0]), indexing="ij"), -1).reshape(-1, len(points[0]))
    covered = sum(any(all(cell < up for cell, up in zip(one, point, strict=True)) for point in points) for one in grid)
    assert pareto.hypervolume(points, [0] * len(points[0])) == pytest.approx(covered)
    front = [point for point, on in zip(points, pareto.front(points), strict=True) if on]
    assert pareto.hypervolume(front, [0] * len(points[0])) == pytest.approx(covered)
    for one, other in combinations(front, 2):
        assert one == other or (
            any(a > b for a, b in zip(one, other, strict=True)) and any(b > a for a, b in zip(one, other, strict=True))
        )
