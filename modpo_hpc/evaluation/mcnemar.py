"""McNemar's test of paired outcomes, its effect size, and the difference that a design could have found.

``b`` counts the questions that the first policy won and ``c`` those that the second won. Ties say nothing about
the direction and are left out, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from modpo_hpc.errors import InputError

Method = Literal["chi2", "chi2_corrected", "exact", "midp"]
Correction = Literal["none", "holm", "bh"]
METHODS: tuple[Method, ...] = get_args(Method)
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


@dataclass(frozen=True)
class McNemarResult:
    """``statistic`` and ``pvalue`` as scipy names them; ``reason`` says why where there was nothing to test."""

    statistic: float
    pvalue: float
    method: str
    reason: str | None = None


def mcnemar(b: int, c: int, method: Method = "chi2") -> McNemarResult:
    """Two-sided test that a question is as often won by one policy as by the other.

    ``chi2`` is the paper's: (b - c)^2 / (b + c) on one degree of freedom, without correction. ``chi2_corrected``
    takes 1 off the difference (Edwards 1948; as statsmodels, also when b equals c). ``exact`` is the binomial test,
    ``midp`` its mid-p form (Fagerland, Lydersen and Laake 2013); their statistic is the smaller count.

    Raises:
        InputError: a count that is negative or no whole number, or an unknown method.
    """
    if method not in METHODS:
        raise InputError(
            "there is no such method",
            field="method",
            value=method,
            remedy=f"Methods are: {', '.join(METHODS)}.",
        )
    b, c = _count("b", b), _count("c", c)
    if b + c == 0:
        return McNemarResult(0.0, 1.0, method, "every question was a tie, so nothing tells the two apart")
    if method in ("chi2", "chi2_corrected"):
        statistic = (abs(b - c) - (method == "chi2_corrected")) ** 2 / (b + c)
        return McNemarResult(statistic, float(stats.chi2.sf(statistic, 1)), method)
    fewer = min(b, c)
    if method == "midp":  # summed, since twice the one less the other cancels below zero in the far tail
        doubled = float(2 * stats.binom.cdf(fewer - 1, b + c, 0.5) + stats.binom.pmf(fewer, b + c, 0.5))
    else:
        doubled = float(2 * stats.binom.cdf(fewer, b + c, 0.5))
    return McNemarResult(float(fewer), min(1.0, doubled), method)


def adjusted(pvalues: Sequence[float] | NDArray[np.float64], correction: Correction) -> NDArray[np.float64]:
    """p-values (n) of one family, adjusted: Holm's step-down, Benjamini and Hochberg's step-up, or as they are."""
    raw = np.asarray(pvalues, dtype=float)
    if correction == "none" or raw.size == 0:
        return raw.copy()
    order, count = np.argsort(raw, kind="stable"), raw.size
    steps = raw[order]
    if correction == "holm":
        steps = np.maximum.accumulate(steps * np.arange(count, 0, -1))
    elif correction == "bh":
        steps = np.minimum.accumulate((steps * count / np.arange(1, count + 1))[::-1])[::-1]
    else:
        raise InputError(
            "there is no such correction",
            field="correction",
            value=correction,
            remedy=f"Corrections are: {', '.join(CORRECTIONS)}.",
        )
    result = np.empty(count)
    result[order] = np.minimum(steps, 1.0)
    return result


def odds_ratio(b: int, c: int, confidence: float = 0.95) -> tuple[float, float, float]:
    """Conditional odds ratio b / c and its exact (Clopper-Pearson) interval; infinite where c is 0, NaN for (0, 0)."""
    b, c = _count("b", b), _count("c", c)
    if b + c == 0:
        return math.nan, math.nan, math.nan
    low, high = stats.binomtest(b, b + c).proportion_ci(confidence, method="exact")
    return (b / c if c else math.inf), low / (1 - low), (high / (1 - high) if high < 1 else math.inf)


def smallest_detectable_difference(questions: int, ties: int = 0, alpha: float = 0.05, power: float = 0.8) -> float:
    """Difference of two win rates (share of all ``questions``) that the chi2 test finds with this ``power``.

    With n = questions - ties discordant questions, of which the first policy wins n (1 + delta) / 2, the test
    rejects with the wanted power when sqrt(n) delta = z(1 - alpha/2) + z(power) sqrt(1 - delta^2) (Miettinen 1968).
    NaN when even a clean sweep would not be found.
    """
    decisive = questions - ties
    if decisive <= 0:
        return math.nan
    critical, reach = stats.norm.ppf(1 - alpha / 2), stats.norm.ppf(power)
    # sqrt(n) d - critical = reach sqrt(1 - d^2) is a quadratic in d
    a, half_b, constant = decisive + reach**2, math.sqrt(decisive) * critical, critical**2 - reach**2
    root = half_b**2 - a * constant
    if root < 0 or math.sqrt(decisive) < critical:
        return math.nan
    delta = (half_b + math.copysign(math.sqrt(root), reach)) / a
    return float(delta * decisive / questions)


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value).is_integer() or value < 0:
        raise InputError(
            "this is no count", field=name, value=value, remedy="Give the number of questions won, 0 or more."
        )
    return int(value)
