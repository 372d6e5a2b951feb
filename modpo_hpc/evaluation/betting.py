"""What the votes heard so far say for sure about their mean share, whenever one looks: betting on bounded means.

A gambler who bets that the mean of shares in [0, 1] is above m, and whose bets depend on the past alone, has a capital
that no strategy makes grow on average if the mean is m or less. That it ever reaches 1 / level has a probability of at
most ``level`` (Ville's inequality). So every m at which it did is ruled out, at whatever moment one stops (Waudby-Smith
and Ramdas 2024, arXiv 2010.09686). Both sides get half of the level.

Validity does not hang on how the capital is bet; how soon it is large does. A part is divided among bets of fixed
fractions of what can be lost (a mixture, as in Cover's portfolios), which soon shows what is far from one half. The
rest knows how many questions there are at most and bets what it still lacks by then (as the STaR bets of Voracek and
Orabona 2025, arXiv 2505.22422, do): were shares normal, what a z-test on all questions finds it would find, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri

Array = NDArray[np.float64]
Outcome = Literal["A", "B", "equivalent", "open"]

FRACTIONS: Array = np.linspace(0.05, 0.95, 19)
"""Of the capital, put at risk on each share: 1 of it would be lost to a single share of 0."""
PART_OF_FRACTIONS = 0.3
"""Of the capital, bet at fixed fractions; the rest is bet towards the last question."""
BEYOND = 0.05
"""The bets towards the last question aim at so much more than is needed, and so get there before it."""
SPREAD, SPREAD_QUESTIONS = 0.25, 10
"""Standard deviation of shares that is assumed before any is heard, and how many questions it weighs."""
FEWEST_BEFORE_FUTILITY = 20
GRID = 100


@dataclass(frozen=True)
class StoppingRule:
    """When a pair needs no more questions.

    ``level``: probability of a wrong decision. ``questions``: how many can be asked. ``margin``: how near to one half
    counts as equal. ``futility``: standard errors, see :func:`settled`.
    """

    level: float
    questions: int
    margin: float | None = None
    futility: float | None = None

    @property
    def needed(self) -> float:
        """Log of the capital that decides."""
        return float(np.log(2 / self.level))


@dataclass(frozen=True)
class Decision:
    """What was decided, and after how many questions; ``open`` after all of them if nothing was."""

    outcome: Outcome
    questions: int


def log_capital(shares: Array, mean: Array | float, rule: StoppingRule) -> Array:
    """Log of the capital after each of ``shares`` (rows, n), from 1, of who bets that their mean is above ``mean``.

    ``mean`` (rows, or one for all) lies between 0 and 1, both excluded. If the mean of each share given those before it
    is ``mean`` or less, the expected capital is never more than 1.
    """
    shares = np.atleast_2d(np.asarray(shares, dtype=float))
    mean = np.broadcast_to(np.asarray(mean, dtype=float), shares.shape[:1])
    returns = shares / mean[:, None] - 1
    growth = np.log1p(FRACTIONS[:, None, None] * returns).cumsum(axis=2)
    fixed = np.logaddexp.reduce(growth, axis=0) + np.log(PART_OF_FRACTIONS / len(FRACTIONS))
    return np.asarray(np.logaddexp(fixed, _towards_the_last(shares, returns, mean, rule)))


def _towards_the_last(shares: Array, returns: Array, mean: Array, rule: StoppingRule) -> Array:
    """Log of the capital that is bet towards the last question, from its part of 1.

    With n questions to come and a capital that is the fraction P of what is aimed at, it bets as one would who has the
    promise of that aim where a normal walk of n steps ends beyond its (1 - P)-quantile: the density of the normal
    distribution there over P, in standard deviations of the walk.
    """
    begin, aim = np.log(1 - PART_OF_FRACTIONS), rule.needed + np.log1p(BEYOND)
    capital = np.empty_like(shares)
    now = np.full(len(shares), begin)
    spread = _spreads(shares) / mean[:, None]
    for place in range(shares.shape[1]):
        z = ndtri(np.exp(np.clip(now - aim, -700.0, -1e-9)))
        stake = np.exp(-z * z / 2 - np.log(2 * np.pi) / 2 - log_ndtr(z))
        fraction = np.minimum(FRACTIONS[-1], stake / (spread[:, place] * np.sqrt(max(1, rule.questions - place))))
        now = now + np.log1p(fraction * returns[:, place])
        capital[:, place] = now
    return capital


def _spreads(shares: Array) -> Array:
    """Standard deviation of ``shares`` (rows, n) as it looks before each of them."""
    heard = np.arange(shares.shape[1])
    before = np.concatenate([np.zeros((2, len(shares), 1)), np.cumsum([shares, shares**2], axis=2)[:, :, :-1]], axis=2)
    squares = before[1] - before[0] ** 2 / np.maximum(heard, 1)
    return np.asarray(np.sqrt((np.maximum(squares, 0) + SPREAD_QUESTIONS * SPREAD**2) / (heard + SPREAD_QUESTIONS)))


def decide(shares: Array, rule: StoppingRule) -> Decision:
    """The first decision on the mean of ``shares`` (n, of A): A is above one half, B is, or both are within the margin.

    Whatever the shares, all decisions that could be taken at any time are wrong with a probability of at most
    ``rule.level`` together.
    """
    return decide_all(shares[None], rule)[0]


def decide_all(shares: Array, rule: StoppingRule) -> list[Decision]:
    """``decide`` for each row of ``shares`` (rows, n)."""
    found, decisions = _shown(shares, rule), []
    for row in range(len(shares)):
        first = {outcome: int(where[row].argmax()) + 1 for outcome, where in found.items() if where[row].any()}
        questions, outcome = min((number, one) for one, number in {**first, "open": shares.shape[1] + 1}.items())
        decisions.append(Decision(outcome, min(questions, shares.shape[1])))
    return decisions


def settled(shares: Array, rule: StoppingRule) -> NDArray[np.bool_]:
    """Whether more questions can be spared after each of ``shares`` (rows, n): a decision is made, or out of reach.

    It is out of reach where a z-test at its level would come to none by the last question, even if the mean of all
    shares to come was further on than that of those heard by ``rule.futility`` standard errors. To stop there decides
    nothing, and so makes no decision wrong.
    """
    decided = np.logical_or.reduce([*_shown(shares, rule).values()])
    if rule.futility is None:
        return np.asarray(decided)
    heard = np.arange(1, shares.shape[1] + 1)
    mean = shares.cumsum(axis=1) / heard
    spread = _spreads(np.append(shares, np.zeros((len(shares), 1)), axis=1))[:, 1:]
    lacking = -float(ndtri(np.exp(-rule.needed))) * spread * np.sqrt(rule.questions)
    hoped = (rule.questions - heard) * rule.futility * spread / np.sqrt(heard)

    def in_reach(lead: Array) -> NDArray[np.bool_]:
        return np.asarray(rule.questions * lead + hoped >= lacking)

    reach = in_reach(mean - 0.5) | in_reach(0.5 - mean)
    if rule.margin is not None:
        reach |= in_reach(mean - 0.5 + rule.margin) & in_reach(0.5 + rule.margin - mean)
    return np.asarray(decided | (~reach & (heard >= FEWEST_BEFORE_FUTILITY)))


def _shown(shares: Array, rule: StoppingRule) -> dict[Outcome, NDArray[np.bool_]]:
    """Outcome -> whether it has been shown by each of ``shares`` (rows, n)."""

    def above(mean: float, of: Array) -> NDArray[np.bool_]:
        return np.asarray(np.logical_or.accumulate(log_capital(of, mean, rule) >= rule.needed, axis=1))

    found: dict[Outcome, NDArray[np.bool_]] = {"A": above(0.5, shares), "B": above(0.5, 1 - shares)}
    if rule.margin is not None:
        found["equivalent"] = above(0.5 - rule.margin, shares) & above(1 - (0.5 + rule.margin), 1 - shares)
    return found


def bounds(shares: Array, rule: StoppingRule) -> tuple[float, float]:
    """Interval that holds the mean at all times at once with a probability of at least 1 - ``rule.level``.

    It is what all the intervals after each of ``shares`` (n) have in common, to four digits outwards.
    """
    return _lower(shares, rule), round(1 - _lower(1 - shares, rule), 4)


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


def _lower(shares: Array, rule: StoppingRule) -> float:
    """The largest mean on a grid up to which every one was ruled out."""
    low = 0
    for step in (GRID, 1):
        means = np.arange(low + step, low + GRID * step, step)[: GRID - 1]
        left = means / GRID**2
        gone = log_capital(np.tile(shares, (len(left), 1)), left, rule).max(axis=1, initial=-np.inf) >= rule.needed
        low += step * int(np.argmin(np.append(gone, False)))
    return low / GRID**2
