"""Does the answer that is shown first win for being first, and does it change a result?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.evaluation.crossed import components
from modpo_hpc.evaluation.winrates import majorities

Votes = NDArray[np.int8]


@dataclass(frozen=True)
class PositionBias:
    """Position bias of one cell.

    ``first_share`` is the share of decided votes won by the answer shown first (0.5 without bias). ``flips`` is the
    share of questions on which those who saw A first and those who saw B first come to opposite majorities, beside
    ``flips_by_chance``, the same for halves drawn at random. ``outcomes`` are the majorities when both orders weigh
    the same on every question.
    """

    first_share: float
    low: float
    high: float
    flips: float
    flips_by_chance: float
    rate_a_first: float
    rate_a_second: float
    outcomes: Votes


def position_bias(
    votes: Votes,
    cast: NDArray[np.bool_],
    first: Votes,
    rng: np.random.Generator,
    confidence: float = 0.95,
    splits: int = 20,
) -> PositionBias:
    """Of ``votes`` (questions x personas: 1 for A, -1 for B, 0), where ``cast``.

    ``first`` is 1 where A was shown first, else -1. For the interval of the share both questions and personas are
    samples.
    """
    decided = cast & (votes != 0)
    share = components((votes == first).astype(float), decided)
    low, high = share.interval(confidence)
    a_first, b_first = cast & (first == 1), cast & (first == -1)
    seen_first, seen_second = (majorities(np.where(half, votes, 0)) for half in (a_first, b_first))
    by_chance = [_opposed(*_random_halves(votes, cast, a_first.sum(axis=1), rng)) for _ in range(splits)]
    balance = _mean(votes, a_first) + _mean(votes, b_first)
    both = a_first.any(axis=1) & b_first.any(axis=1)
    # rounded: the two means are sums of ones over counts, and a draw must stay a draw
    outcomes = np.where(both, np.sign(np.round(balance, 9)), majorities(np.where(cast, votes, 0)))
    return PositionBias(
        share.mean,
        max(low, 0.0),
        min(high, 1.0),
        _opposed(seen_first, seen_second),
        float(np.mean(by_chance)),
        float((seen_first == 1).mean()),
        float((seen_second == 1).mean()),
        outcomes.astype(np.int8),
    )


def _random_halves(
    votes: Votes, cast: NDArray[np.bool_], sizes: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Votes, Votes]:
    order = np.where(cast, rng.random(votes.shape), np.inf).argsort(axis=1).argsort(axis=1)
    chosen = cast & (order < sizes[:, None])
    return majorities(np.where(chosen, votes, 0)), majorities(np.where(cast & ~chosen, votes, 0))


def _opposed(one: Votes, other: Votes) -> float:
    return float((one * other == -1).mean())


def _mean(votes: Votes, where: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(where, votes, 0).sum(axis=1) / np.maximum(where.sum(axis=1), 1)
