"""Win rates corrected for a judge's errors, with intervals that carry the test set's and the labels' uncertainty.

Sensitivity is the share of people's A that the judge calls A, specificity that of people's B that it calls B. Labelled
questions from elsewhere tell these two, and not how often A is better: the true rate is (rate + specificity - 1) /
(sensitivity + specificity - 1) (Rogan and Gladen 1978; Lee et al., arXiv 2511.21140), and takes a judge that beats
chance. Where the labelled questions were drawn at random from those that the rate is of, they tell more, of any judge:
the true rate is rate x (people's share of A where the judge says A) + (1 - rate) x (that where it says B), the estimate
of greatest likelihood under double sampling (Tenenbein 1970).

Each interval is recovered from those of three shares, Jeffreys' (Brown, Cai and DasGupta 2001): from the estimate to a
limit it is as far as the root of the summed squares of the shares' own distances (MOVER; Zou and Donner 2008). For the
ratio of Rogan and Gladen that is said of rate - p sensitivity - (1 - p) (1 - specificity): the interval holds the rates
p for which it may be zero, as in Fieller's theorem.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv

from modpo_hpc.errors import InputError
from modpo_hpc.intervals import wilson_interval

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Confusion:
    """Labelled questions that neither people nor the judge call a tie, by people's label and then the judge's.

    Weighted ones are no whole numbers.
    """

    a_a: float
    a_b: float
    b_a: float
    b_b: float

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 0:
            raise InputError(
                "a count is negative", field="--counts", value=list(asdict(self).values()), remedy="Count."
            )

    @property
    def constant(self) -> bool:
        """Whether the judge gave one answer to all of them."""
        return not (self.a_b + self.b_b and self.a_a + self.b_a)


@dataclass(frozen=True)
class Share:
    """A share of ``cases`` with its interval."""

    value: float
    low: float
    high: float
    cases: float

    @property
    def ends(self) -> tuple[float, float]:
        """Of the interval."""
        return self.low, self.high


@dataclass(frozen=True)
class CorrectedRate:
    """A judge's win rate ``rate`` over ``of`` decided questions, and what it is after the correction.

    ``drawn`` says whether the labelled questions are a random sample of those, ``informative`` whether anything is
    learned. Where it is not, because the judge is not shown to beat chance or because no true rate goes with its rate
    and its errors, ``estimate`` is NaN and ``low`` to ``high`` all of [0, 1].
    """

    sensitivity: Share
    specificity: Share
    rate: float
    of: int
    estimate: float
    low: float
    high: float
    drawn: bool
    informative: bool
    constant: bool

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def confusion_of(labels: Array, predicted: Array, inclusion: Array) -> Confusion:
    """Counts of people's labels against the judge's majorities, ties of either left out.

    Each question weighs by its probability to be labelled, and all count as many as their effective number (Kish 1965),
    which is their number where the probabilities are equal.

    Args:
        labels: people's, 1 (A), .5 or 0 (B), of the labelled questions.
        predicted: share of the judge's votes for A, of the same.
        inclusion: their probability to be labelled.
    """
    decided = (labels != 0.5) & (predicted != 0.5)
    weight = decided / inclusion
    weight *= weight.sum() / max(float(weight @ weight), 1e-300)
    counts = [
        round(float(weight[((labels > 0.5) == is_a) & ((predicted > 0.5) == says_a)].sum()), 9)
        for is_a in (True, False)
        for says_a in (True, False)
    ]
    return Confusion(*counts)


def share(cases: float, of: float, confidence: float = 0.95) -> Share:
    """``cases`` of ``of`` with Wilson's score interval; NaN without any."""
    if not of:
        return Share(math.nan, math.nan, math.nan, 0)
    return Share(cases / of, *wilson_interval(cases, of, confidence), of)


def correct(counts: Confusion, rate: float, of: int, drawn: bool = False, confidence: float = 0.95) -> CorrectedRate:
    """The rate at which people would prefer A, from the judge's ``rate`` over ``of`` decided questions.

    Args:
        drawn: the questions of ``counts`` were drawn at random from these; otherwise they are from elsewhere.

    Raises:
        InputError: a rate outside [0, 1], or over no questions, or over fewer than were drawn.
    """
    if not 0 <= rate <= 1 or of < 1:
        raise InputError("this is no rate", field="--rate, --of", value=(rate, of), remedy="Give a share and a count.")
    is_a, is_b = counts.a_a + counts.a_b, counts.b_a + counts.b_b
    if drawn and is_a + is_b > of + 1e-6:
        raise InputError(
            "more questions were labelled than there are", field="--of", value=of, remedy="Count those labelled, too."
        )
    judged = _jeffreys(rate * of, of, confidence)
    estimate, low, high = math.nan, 0.0, 1.0
    if drawn and is_a + is_b:
        said_a = _jeffreys(counts.a_a, counts.a_a + counts.b_a, confidence)
        said_b = _jeffreys(counts.a_b, counts.a_b + counts.b_b, confidence)
        estimate, low, high = _by_answers(judged, said_a, said_b)
    elif not drawn and counts.a_a * is_b > counts.b_a * is_a:
        estimate, low, high = _by_errors(
            judged, _jeffreys(counts.a_a, is_a, confidence), _jeffreys(counts.b_a, is_b, confidence)
        )
    informative = (low, high) != (0, 1)
    return CorrectedRate(
        share(counts.a_a, is_a, confidence),
        share(counts.b_b, is_b, confidence),
        rate,
        of,
        estimate if informative else math.nan,
        low,
        high,
        drawn,
        informative,
        counts.constant,
    )


def _by_answers(judged: Share, said_a: Share, said_b: Share) -> tuple[float, float, float]:
    """Estimate and limits from people's shares of A where the judge says A and where it says B."""
    gain = said_a.value - said_b.value
    estimate = judged.value * said_a.value + (1 - judged.value) * said_b.value
    # the judge's rate moves the estimate down where people prefer A rather where the judge does not
    rates = judged.ends if gain > 0 else judged.ends[::-1]
    below, above = (
        math.hypot(
            gain * (rate - judged.value), judged.value * (a - said_a.value), (1 - judged.value) * (b - said_b.value)
        )
        for rate, a, b in zip(rates, said_a.ends, said_b.ends, strict=True)
    )
    return estimate, _within(estimate - below), _within(estimate + above)


def _by_errors(judged: Share, sensitivity: Share, false_a: Share) -> tuple[float, float, float]:
    """Estimate and limits from the shares that the judge calls A of people's A and of people's B, the first larger.

    All of [0, 1] where no true rate is compatible with the three: then the judge errs otherwise on these questions.
    """
    estimate = _within((judged.value - false_a.value) / (sensitivity.value - false_a.value))

    def excess(true: float) -> float:
        """How far the squared misfit of a true rate is above what chance allows."""
        misfit = judged.value - true * sensitivity.value - (1 - true) * false_a.value
        rate, end = (judged.low, 1) if misfit > 0 else (judged.high, 0)
        allowed = math.hypot(
            judged.value - rate,
            true * (sensitivity.ends[end] - sensitivity.value),
            (1 - true) * (false_a.ends[end] - false_a.value),
        )
        return misfit**2 - allowed**2

    if excess(estimate) > 0:
        return math.nan, 0.0, 1.0

    def limit(end: float) -> float:
        return end if excess(end) <= 0 else float(brentq(excess, end, estimate))

    return estimate, limit(0.0), limit(1.0)


def _jeffreys(cases: float, of: float, confidence: float) -> Share:
    """A share with the interval of Jeffreys' prior, to the very end where all cases or none are; without cases all."""
    low, high = (float(betaincinv(cases + 0.5, of - cases + 0.5, (1 + side * confidence) / 2)) for side in (-1, 1))
    return Share(cases / of if of else 0.5, low if cases else 0.0, high if cases < of else 1.0, of)


def _within(value: float) -> float:
    return min(max(value, 0.0), 1.0)
