"""The judges of a panel as raters: how sharply each tells policies apart, and what else moves it.

Judge-aware Bradley-Terry (arXiv 2601.21817): judge j prefers A with probability logistic(g_j (t_A - t_B)), abilities
summing to zero and discriminations with geometric mean 1. A judge that clicks at random gets a discrimination near 0
and little say in the abilities. Discrimination is agreement with the panel, not with people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from modpo_hpc.evaluation.ballots import Ballots
from modpo_hpc.evaluation.winrates import Pairs, every_pair

Array = NDArray[np.float64]
_PRIOR = 0.5
_RIDGE = 0.05


@dataclass(frozen=True)
class JudgeAware:
    """Abilities (policies) and discriminations (judges), each with the ends of its interval."""

    ability: Array
    ability_low: Array
    ability_high: Array
    discrimination: Array
    discrimination_low: Array
    discrimination_high: Array


def judge_aware(
    ballots: Ballots, criterion: int, rng: np.random.Generator, draws: int = 100, confidence: float = 0.95
) -> JudgeAware:
    """The model for one criterion of a panel; intervals come from questions drawn again, each with all its votes."""
    judges = len(ballots.judges)
    shape = (len(ballots.pairs), len(ballots.questions), judges, -1)
    votes, cast = ballots.votes[criterion].reshape(shape), ballots.cast[criterion].reshape(shape)
    # pairs x judges x questions: votes for A, a tie being half of one, and votes cast
    won = ((votes + 1) / 2 * cast).sum(axis=-1).swapaxes(1, 2)
    asked = cast.sum(axis=-1).swapaxes(1, 2).astype(float)
    places, policies = ballots.places, len(ballots.policies)
    found = fit(won.sum(axis=-1), asked.sum(axis=-1), policies, pairs=places)
    again = []
    for _ in range(draws):
        weight = np.bincount(rng.integers(0, shape[1], shape[1]), minlength=shape[1]).astype(float)
        again.append(fit(won @ weight, asked @ weight, policies, found, places))
    tail = (1 - confidence) / 2
    ends = [np.quantile(np.array([one[place] for one in again]), [tail, 1 - tail], axis=0) for place in (0, 1)]
    (ability_low, ability_high), (low, high) = ends
    return JudgeAware(found[0], ability_low, ability_high, found[1], low, high)


def fit(
    won: Array, asked: Array, policies: int, start: tuple[Array, Array] | None = None, pairs: Pairs | None = None
) -> tuple[Array, Array]:
    """Abilities and discriminations from votes ``won`` by A of those ``asked`` (pairs x judges).

    The pairs are all there are, or ``pairs``.

    Half a vote for either side is added to each, and log-discriminations are held near 0 by a weak normal prior, so
    that a clean sweep stays finite.
    """
    a, b = np.array(every_pair(policies) if pairs is None else pairs).T
    won, asked = won + _PRIOR, asked + 2 * _PRIOR
    judges = won.shape[1]

    def unpack(theta: Array) -> tuple[Array, Array]:
        ability = np.append(theta[: policies - 1], -theta[: policies - 1].sum())
        slope = np.append(theta[policies - 1 :], -theta[policies - 1 :].sum())
        return ability, np.exp(slope)

    def loss(theta: Array) -> tuple[float, Array]:
        ability, slope = unpack(theta)
        gap = ability[a] - ability[b]
        logits = gap[:, None] * slope[None]
        value = float((asked * np.logaddexp(0, logits) - won * logits).sum())
        excess = asked * expit(logits) - won
        of_gap = (excess * slope[None]).sum(axis=1)
        of_ability = np.zeros(policies)
        np.add.at(of_ability, a, of_gap)
        np.add.at(of_ability, b, -of_gap)
        of_slope = (excess * logits).sum(axis=0) + _RIDGE * np.log(slope)
        value += _RIDGE / 2 * float((np.log(slope) ** 2).sum())
        return value, np.concatenate([of_ability[:-1] - of_ability[-1], of_slope[:-1] - of_slope[-1]])

    if start is None:
        pooled = logit(won.sum(axis=1) / asked.sum(axis=1))
        ability = np.zeros(policies)
        np.add.at(ability, a, pooled / policies)
        np.add.at(ability, b, -pooled / policies)
        start = ability, np.ones(judges)
    first = np.concatenate([start[0][:-1], np.log(start[1])[:-1]])
    return unpack(minimize(loss, first, jac=True, method="L-BFGS-B").x)
