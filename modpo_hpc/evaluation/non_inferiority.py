"""Non-inferiority and equivalence of two policies within a margin that was stated beforehand, on paired outcomes.

The difference is that of two win rates, (b - c) / n: b of n questions won by the policy, c by the reference, the rest
tied. Its interval inverts the score test whose variance is estimated under the hypothesis (Tango 1998, Statistics in
Medicine 17:891); it holds for small counts and for tables with a zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats
from scipy.optimize import brentq

from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.mcnemar import adjusted
from modpo_hpc.study import Study
from modpo_hpc.study.evaluation import Statistics


@dataclass(frozen=True)
class NonInferiority:
    """A paired difference with its interval, and p-values of the hypotheses that it lies at or beyond the margin.

    ``p`` is one-sided, for "worse by ``margin`` or more"; ``p_equivalence`` is the larger of that and its mirror image
    (two one-sided tests).
    """

    difference: float
    low: float
    high: float
    p: float
    p_equivalence: float


def tango_statistic(b: int, c: int, n: int, difference: float) -> float:
    """Score statistic of the hypothesis that the paired difference is ``difference``; standard normal under it."""
    if abs(difference) >= 1:
        return math.copysign(math.inf, b - c - n * difference) if b - c != n * difference else 0.0
    worse = _restricted(b / n, c / n, difference)
    variance = n * (2 * worse + difference * (1 - difference))
    distance = b - c - n * difference
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def tango_interval(b: int, c: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of the paired difference (b - c) / n.

    Raises:
        InputError: counts that are negative, or more than ``n``.
    """
    if n < 1 or min(b, c) < 0 or b + c > n:
        raise InputError(
            "these are no counts of paired outcomes",
            field="b, c, n",
            value=(b, c, n),
            remedy="Give questions won, lost and asked.",
        )
    reach, estimate = float(stats.norm.ppf((1 + confidence) / 2)), (b - c) / n
    edge = 1 - 1e-12

    def bound(end: float, wanted: float) -> float:
        beyond = tango_statistic(b, c, n, end) - wanted
        if abs(estimate - end) < 1e-12 or beyond * (tango_statistic(b, c, n, estimate) - wanted) > 0:
            return round(end)
        return float(brentq(lambda d: tango_statistic(b, c, n, d) - wanted, min(end, estimate), max(end, estimate)))

    return bound(-edge, reach), bound(edge, -reach)


def non_inferiority(b: int, c: int, n: int, margin: float, confidence: float = 0.95) -> NonInferiority:
    """Whether the policy that won ``b`` of ``n`` questions is worse than the one that won ``c`` by ``margin`` or more.

    Raises:
        InputError: no counts, or a margin outside (0, 1).
    """
    _check_margin(margin)
    low, high = tango_interval(b, c, n, confidence)
    worse = float(stats.norm.sf(tango_statistic(b, c, n, -margin)))
    better = float(stats.norm.cdf(tango_statistic(b, c, n, margin)))
    return NonInferiority((b - c) / n, low, high, worse, max(worse, better))


def questions_needed(
    margin: float, decided: float, difference: float = 0.0, alpha: float = 0.025, power: float = 0.8
) -> int:
    """Questions for which Tango's test shows non-inferiority with ``power``, by its normal approximation.

    Args:
        margin: difference that may be lost, between 0 and 1.
        decided: share of the questions that are no tie.
        difference: the true one; 0 if both win as often.
        alpha: one-sided level.

    Raises:
        InputError: no such margin, or a true difference that is not above it, or larger than ``decided`` allows.
    """
    hypothesis, truth = _spreads(margin, decided, difference)
    reach = float(stats.norm.ppf(1 - alpha)) * hypothesis + float(stats.norm.ppf(power)) * truth
    return math.ceil((reach / (difference + margin)) ** 2)


def power_of(questions: int, margin: float, decided: float, difference: float = 0.0, alpha: float = 0.025) -> float:
    """Probability that ``questions`` show non-inferiority; the other arguments as of :func:`questions_needed`."""
    hypothesis, truth = _spreads(margin, decided, difference)
    distance = math.sqrt(questions) * (difference + margin) - float(stats.norm.ppf(1 - alpha)) * hypothesis
    return float(stats.norm.cdf(distance / truth))


def _spreads(margin: float, decided: float, difference: float) -> tuple[float, float]:
    """Standard deviations of one question's outcome, under the hypothesis and under the truth."""
    _check_margin(margin)
    if not (0 < decided <= 1 and -margin < difference < decided):
        raise InputError(
            "no number of questions can show this",
            field="difference",
            value=difference,
            remedy="The true difference must lie above -margin and below the share that is decided.",
        )
    won, lost = (decided + difference) / 2, (decided - difference) / 2
    variance = 2 * _restricted(won, lost, -margin) - margin * (1 + margin)
    return math.sqrt(variance), math.sqrt(decided - difference**2)


def power_sentences(study: Study, questions: int, decided: float = 0.9) -> list[str]:
    """For a plan: what each margin of ``study`` takes, and what its ``questions`` can show, if both win as often.

    ``decided`` is the share of questions that a large panel of personas does not leave tied.
    """
    settings = study.statistics
    return [
        f"to show that {criterion} is maintained within {margin:g} of the reference, where both win as often and "
        f"{decided:.0%} of the questions are decided, takes "
        f"{questions_needed(margin, decided, 0.0, settings.alpha / 2, settings.power):,} questions for a power of "
        f"{settings.power:.0%}; {questions:,} have a power of "
        f"{power_of(questions, margin, decided, 0.0, settings.alpha / 2):.0%} for each policy before correction"
        for criterion, margin in settings.non_inferiority.items()
    ]


def non_inferiority_rows(
    win_rates: Sequence[Mapping[str, Any]], reference: str, settings: Statistics
) -> list[dict[str, Any]]:
    """Each policy that met ``reference`` in one phase, under each criterion for which the study states a margin.

    ``win_rates`` are the phase's rows of that table: their ``difference_low`` and ``difference_high`` are the interval
    of the inferential model, which takes personas as a sample too. A policy counts as not inferior only where both
    Tango's test, after the study's correction over the policies, and the model's interval say so. Tests are
    one-sided at half of ``alpha``.
    """
    rows: list[dict[str, Any]] = []
    for criterion, margin in settings.non_inferiority.items():
        family = list(_against(win_rates, criterion, reference, margin, settings))
        for name in ("p", "p_equivalence"):
            corrected = adjusted([row[name] for row in family], settings.correction)
            for row, p in zip(family, corrected, strict=True):
                row[f"{name}_adjusted"] = float(p)
        for row in family:
            level = settings.alpha / 2
            above = not row["model_low"] <= -margin  # NaN where no replicates were drawn: Tango's test decides alone
            within = above and not row["model_high"] >= margin
            row["non_inferior"] = bool(row["p_adjusted"] < level and above)
            row["equivalent"] = bool(row["p_equivalence_adjusted"] < level and within)
        rows += family
    return rows


def _against(
    win_rates: Sequence[Mapping[str, Any]], criterion: str, reference: str, margin: float, settings: Statistics
) -> Iterator[dict[str, Any]]:
    for row in win_rates:
        if row["criterion"] != criterion or reference not in (row["policy_a"], row["policy_b"]):
            continue
        turned = row["policy_a"] == reference
        won, lost = (row["wins_b"], row["wins_a"]) if turned else (row["wins_a"], row["wins_b"])
        ends = (row["difference_low"], row["difference_high"])
        low, high = (-ends[1], -ends[0]) if turned else ends
        found = non_inferiority(won, lost, row["questions"], margin, settings.confidence)
        decided = (won + lost) / row["questions"]
        yield {
            "phase": row["phase"],
            "criterion": criterion,
            "policy": row["policy_b"] if turned else row["policy_a"],
            "reference": reference,
            "questions": row["questions"],
            "won": won,
            "lost": lost,
            "margin": margin,
            **vars(found),
            "model_low": low,
            "model_high": high,
            "questions_needed": questions_needed(margin, decided, 0.0, settings.alpha / 2, settings.power)
            if decided
            else 0,
        }


def _restricted(won: float, lost: float, difference: float) -> float:
    """Share of questions lost that is likeliest among those with this ``difference`` (Tango's q21)."""
    half = (won + lost - (2 - won + lost) * difference) / 4
    product = lost * difference * (1 - difference) / 2
    # the two shares cannot be negative, so the lost one is at least what the difference demands
    return max(half + math.sqrt(max(half * half + product, 0.0)), -difference, 0.0)


def _check_margin(margin: float) -> None:
    if not 0 < margin < 1:
        raise InputError(
            "this is no margin",
            field="statistics.non_inferiority",
            value=margin,
            remedy="A margin is a difference of win rates between 0 and 1, for instance .05.",
        )
