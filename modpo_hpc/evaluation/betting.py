"""What the votes heard so far say for sure about their mean share, whenever one looks: betting on bounded means.

A gambler who bets that the mean of shares in [0, 1] is above m, and whose bets depend on the past alone, has a capital
that no strategy makes grow on average if the mean is m or less. That it ever reaches 1 / level has a probability of at
most ``level`` (Ville's inequality). So every m at which it did is ruled out, at whatever moment one stops (Waudby-Smith
and Ramdas 2024, arXiv 2010.09686). Both sides get half of the level.

The capital is divided among bets of fixed fractions of what can be lost (a mixture, as in Cover's portfolios): it needs
no guess of the spread, is never ruined, and falls as m grows, so that what it leaves is an interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Outcome = Literal["A", "B", "equivalent", "open"]

FRACTIONS: Array = np.linspace(0.05, 0.95, 19)
"""Of the capital, put at risk on each share: 1 of it would be lost to a single share of 0."""
HALVINGS = 40


@dataclass(frozen=True)
class StoppingRule:
    """How sure a decision has to be: the probability of a wrong one, and how near to one half counts as equal."""

    level: float
    margin: float | None = None


@dataclass(frozen=True)
class Decision:
    """What was decided, and after how many questions; ``open`` after all of them if nothing was."""

    outcome: Outcome
    questions: int


def log_capital(shares: Array, mean: float) -> Array:
    """Log of the capital after each of ``shares`` (n), from 1, of who bets that their mean is above ``mean``.

    ``mean`` lies between 0 and 1, both excluded. If the mean of each share given those before it is ``mean`` or less,
    the expected capital is never more than 1.
    """
    growth = np.log1p(FRACTIONS[:, None] * (np.asarray(shares, dtype=float) / mean - 1)).cumsum(axis=1)
    return np.asarray(np.logaddexp.reduce(growth, axis=0) - np.log(len(FRACTIONS)))


def decide(shares: Array, rule: StoppingRule) -> Decision:
    """The first decision on the mean of ``shares`` (n, of A): A is above one half, B is, or both are within the margin.

    Whatever the shares, all decisions that could be taken at any time are wrong with a probability of at most
    ``rule.level`` together.
    """
    needed = np.log(2 / rule.level)

    def shown(mean: float, above: bool) -> NDArray[np.bool_]:
        capital = log_capital(shares, mean) if above else log_capital(1 - shares, 1 - mean)
        return np.asarray(np.logical_or.accumulate(capital >= needed))

    found: dict[Outcome, NDArray[np.bool_]] = {"A": shown(0.5, True), "B": shown(0.5, False)}
    if rule.margin is not None:
        found["equivalent"] = shown(0.5 - rule.margin, True) & shown(0.5 + rule.margin, False)
    first = {outcome: int(where.argmax()) + 1 for outcome, where in found.items() if where.any()}
    if not first:
        return Decision("open", len(shares))
    outcome = min(first, key=lambda one: first[one])
    return Decision(outcome, first[outcome])


def bounds(shares: Array, level: float) -> tuple[float, float]:
    """Interval that holds the mean at all times at once with a probability of at least 1 - ``level``.

    It is what all the intervals after each of ``shares`` have in common.
    """
    return _lower(shares, level / 2), 1 - _lower(1 - shares, level / 2)


def weighted_shares(votes: NDArray[np.int8], cast: NDArray[np.bool_], group: NDArray[np.int64], weight: Array) -> Array:
    """Share of the votes that A has on each question, a tie half of one: questions, NaN where no vote was cast.

    Args:
        votes: questions x personas; 1 for A, -1 for B, 0 for a tie.
        cast: where there is a vote.
        group: of each persona. Within a group votes count alike.
        weight: of each group; a group without a vote on a question has none there.
    """
    member = (group[:, None] == np.arange(len(weight))).astype(float)
    heard = cast @ member
    won = np.where(cast, (votes + 1) / 2, 0.0) @ member
    counted = np.where(heard > 0, weight, 0.0)
    total = counted.sum(axis=1)
    summed = (counted * won / np.maximum(heard, 1)).sum(axis=1)
    return np.asarray(np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan))


def _lower(shares: Array, level: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        mean = (low + high) / 2
        if len(shares) and log_capital(shares, mean).max() >= -np.log(level):
            low = mean
        else:
            high = mean
    return low
