"""Rates of many small groups, each drawn towards the whole as far as it is uncertain itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shrunk:
    """Shrunk rates (groups) with their interval; ``spread`` is the standard deviation of the true rates."""

    rate: Array
    low: Array
    high: Array
    spread: float


def shrink(rates: Array, variances: Array, confidence: float = 0.95) -> Shrunk:
    """Empirical Bayes of ``rates`` (groups) whose sampling ``variances`` are known: the normal-normal model.

    The variance between groups is Paule and Mandel's; where it is zero every group gets the whole's rate. The
    interval also carries the uncertainty of the whole. Clipped to 0 and 1.
    """
    rates, variances = np.asarray(rates, dtype=float), np.maximum(np.asarray(variances, dtype=float), 1e-12)
    between = _paule_mandel(rates, variances)
    weights = 1 / (between + variances)
    whole, whole_variance = float((weights * rates).sum() / weights.sum()), 1 / float(weights.sum())
    own = between / (between + variances)
    rate = whole + own * (rates - whole)
    reach = stats.norm.ppf((1 + confidence) / 2) * np.sqrt(own * variances + (1 - own) ** 2 * whole_variance)
    return Shrunk(
        np.clip(rate, 0, 1), np.clip(rate - reach, 0, 1), np.clip(rate + reach, 0, 1), float(np.sqrt(between))
    )


def _paule_mandel(rates: Array, variances: Array) -> float:
    """The variance between groups at which the weighted squares equal their degrees of freedom."""
    degrees = len(rates) - 1

    def surplus(between: float) -> float:
        weights = 1 / (between + variances)
        return float((weights * (rates - (weights * rates).sum() / weights.sum()) ** 2).sum()) - degrees

    if degrees < 1 or surplus(0.0) <= 0:
        return 0.0
    low, high = 0.0, float(np.ptp(rates)) ** 2 + 1e-12
    while surplus(high) > 0:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if surplus(middle) > 0 else (low, middle)
    return (low + high) / 2
