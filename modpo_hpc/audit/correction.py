"""Win rates corrected for a judge's errors, with intervals that carry the test set's and the calibration's uncertainty.

Sensitivity is the share of people's A that the judge calls A, specificity that of people's B that it calls B. Rogan and
Gladen (1978): the true rate is (rate + specificity - 1) / (sensitivity + specificity - 1). The interval is that of Lee
et al. (arXiv 2511.21140), which adds successes and failures to each of the three shares; the delta method's stands
beside it. Both take the judge's errors to be the same on the test set as on the labelled questions.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from modpo_hpc.errors import InputError


@dataclass(frozen=True)
class Confusion:
    """Labelled questions that neither people nor the judge call a tie, by people's label and then the judge's."""

    a_a: int
    a_b: int
    b_a: int
    b_b: int

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 0:
            raise InputError(
                "a count is negative", field="--counts", value=list(asdict(self).values()), remedy="Count."
            )

    @property
    def questions(self) -> int:
        """All of them."""
        return self.a_a + self.a_b + self.b_a + self.b_b

    @property
    def constant(self) -> bool:
        """Whether the judge gave one answer to all of them."""
        return not (self.a_b + self.b_b and self.a_a + self.b_a)


@dataclass(frozen=True)
class Share:
    """A share with its Wilson interval; NaN without cases."""

    value: float
    low: float
    high: float
    cases: int


@dataclass(frozen=True)
class Corrected:
    """A judge's win rate ``rate`` over ``of`` decided questions, and what it is after the correction.

    ``informative`` says whether sensitivity and specificity together exceed chance (their sum 1) by more than their
    uncertainty. Where they do not, the correction divides by what may be zero: ``low`` to ``high`` is all of [0, 1].
    """

    sensitivity: Share
    specificity: Share
    rate: float
    of: int
    estimate: float
    low: float
    high: float
    delta_low: float
    delta_high: float
    informative: bool
    constant: bool

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def share(cases: int, of: int, confidence: float = 0.95) -> Share:
    """``cases`` of ``of`` with Wilson's score interval."""
    if not of:
        return Share(math.nan, math.nan, math.nan, 0)
    interval = stats.binomtest(cases, of).proportion_ci(confidence, method="wilson")
    return Share(cases / of, float(interval.low), float(interval.high), of)


def correct(counts: Confusion, rate: float, of: int, confidence: float = 0.95) -> Corrected:
    """The rate at which people would prefer A, from the judge's ``rate`` over ``of`` decided questions.

    Raises:
        InputError: a rate outside [0, 1], or over no questions.
    """
    if not 0 <= rate <= 1 or of < 1:
        raise InputError("this is no rate", field="--rate, --of", value=(rate, of), remedy="Give a share and a count.")
    is_a, is_b = counts.a_a + counts.a_b, counts.b_a + counts.b_b
    sensitivity, specificity = share(counts.a_a, is_a, confidence), share(counts.b_b, is_b, confidence)
    nothing = Corrected(
        sensitivity, specificity, rate, of, math.nan, 0.0, 1.0, math.nan, math.nan, False, counts.constant
    )
    if not (is_a and is_b) or counts.constant:
        return nothing
    z = float(stats.norm.ppf((1 + confidence) / 2))
    # shares as they are for the delta method, and with successes and failures added for the interval of Lee et al.
    plain = _plug_in(rate, of, specificity.value, is_b, sensitivity.value, is_a)
    smooth = _plug_in(
        (rate * of + z**2 / 2) / (of + z**2),
        of + z**2,
        (counts.b_b + 1) / (is_b + 2),
        is_b + 2,
        (counts.a_a + 1) / (is_a + 2),
        is_a + 2,
    )
    youden, error = smooth[2:]
    if youden - z * error <= 0:
        return nothing
    estimate, spread = plain[0], z * plain[1]
    centre = smooth[0] + 2 * z**2 * (
        smooth[0] * _variance(counts.a_a + 1, is_a + 2) - (1 - smooth[0]) * _variance(counts.b_b + 1, is_b + 2)
    )
    return Corrected(
        sensitivity,
        specificity,
        rate,
        of,
        _within(estimate),
        _within(centre - z * smooth[1]),
        _within(centre + z * smooth[1]),
        _within(estimate - spread),
        _within(estimate + spread),
        True,
        False,
    )


def _plug_in(
    rate: float, of: float, specificity: float, of_b: float, sensitivity: float, of_a: float
) -> tuple[float, float, float, float]:
    """Corrected rate, its standard error, Youden's index and its standard error."""
    youden = sensitivity + specificity - 1
    variance_a = sensitivity * (1 - sensitivity) / of_a
    variance_b = specificity * (1 - specificity) / of_b
    error = math.sqrt(variance_a + variance_b)
    if youden == 0:
        return math.nan, math.nan, youden, error
    true = (rate + specificity - 1) / youden
    variance = rate * (1 - rate) / of + (1 - true) ** 2 * variance_b + true**2 * variance_a
    return true, math.sqrt(variance) / abs(youden), youden, error


def _variance(cases: float, of: float) -> float:
    return cases / of * (1 - cases / of) / of


def _within(value: float) -> float:
    return min(max(value, 0.0), 1.0)
