"""Win rates with the difference in length taken out, after Dubois et al. (2024)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

_PRIOR_SCALE = 5.0


@dataclass(frozen=True)
class Controlled:
    """Win rate of A at equal length with its interval, and the log-odds per standard deviation of length."""

    rate: float
    low: float
    high: float
    slope: float
    slope_low: float
    slope_high: float


def length_controlled(outcomes: Array, lengths_a: Array, lengths_b: Array, confidence: float = 0.95) -> Controlled:
    """Of ``outcomes`` (questions: 1 A won, 0.5 tie, 0 B won) and the lengths of the two answers to each question.

    A logistic regression on tanh of the standardised difference in length, read at a difference of zero; the interval
    is the sandwich's. A weak normal prior (scale 5 on log-odds) keeps a clean sweep finite. Where all differences are
    equal, length cannot be told from policy, and the slope is zero.
    """
    difference = np.asarray(lengths_a, dtype=float) - np.asarray(lengths_b, dtype=float)
    scale = float(difference.std())
    regressor = np.tanh(difference / scale) if scale > 0 else np.zeros_like(difference)
    design = np.column_stack([np.ones_like(regressor), regressor])
    weights: NDArray[np.float64] = np.zeros(2)
    prior = np.eye(2) / _PRIOR_SCALE**2
    for _ in range(100):
        chance = 1 / (1 + np.exp(-design @ weights))
        information = design.T @ (design * (chance * (1 - chance))[:, None]) + prior
        step = np.linalg.solve(information, design.T @ (outcomes - chance) - prior @ weights)
        weights = weights + np.clip(step, -3, 3)
        if np.abs(step).max() < 1e-10:
            break
    chance = 1 / (1 + np.exp(-design @ weights))
    bread = np.linalg.inv(design.T @ (design * (chance * (1 - chance))[:, None]) + prior)
    scores = design * (outcomes - chance)[:, None]
    covariance = bread @ (scores.T @ scores + prior) @ bread
    reach = stats.norm.ppf((1 + confidence) / 2) * np.sqrt(np.diag(covariance))
    low, high = weights - reach, weights + reach
    rate, rate_low, rate_high = (float(1 / (1 + np.exp(-value))) for value in (weights[0], low[0], high[0]))
    return Controlled(rate, rate_low, rate_high, float(weights[1]), float(low[1]), float(high[1]))
