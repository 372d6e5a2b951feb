"""Prediction-powered inference: a few labels by people, the judge's votes on every question, one unbiased estimate.

The estimate is mean(power f) over all questions plus the mean of (label - power f) over the labelled ones, weighted by
their probability to be labelled (PPI++, arXiv 2311.01453; with unequal probabilities arXiv 2403.03208). ``power`` is
the one with the least variance, so that a useless judge gets 0 and leaves people's mean alone. Unlike a correction by
sensitivity and specificity it assumes nothing of the judge, only that the labelled questions were drawn as said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
FEWEST_LABELS = 10


@dataclass(frozen=True)
class PredictionPowered:
    """Share of A by people's label: ties are halves, in labels and in votes.

    ``naive`` is the judge's mean, ``classical`` the mean of the labels alone with its interval, ``estimate`` the
    prediction-powered one. ``correlation`` is between label and votes. ``worth`` is how many labels the judge stands
    for besides those that there are, and ``shown`` whether the correlation differs from zero at all.
    """

    labels: int
    questions: int
    naive: float
    classical: float
    classical_low: float
    classical_high: float
    estimate: float
    low: float
    high: float
    power: float
    correlation: float
    worth: float
    constant: bool
    shown: bool


def prediction_powered(
    labels: Array, predicted: Array, labelled: NDArray[np.bool_], inclusion: Array, confidence: float = 0.95
) -> PredictionPowered | None:
    """The estimate; None with fewer than 10 labels, from which no interval can be had.

    Args:
        labels: people's, 1 (A), .5 or 0 (B), of the ``labelled`` questions in their order.
        predicted: share of the votes for A, of every question.
        inclusion: probability of every question to be labelled.
    """
    count, questions = int(labelled.sum()), len(predicted)
    if count < FEWEST_LABELS:
        return None
    weight = np.zeros(questions)
    weight[labelled] = 1 / inclusion[labelled]
    weight *= questions / weight.sum()
    label = np.zeros(questions)
    label[labelled] = labels
    mean = float((weight * label).sum() / questions)
    mean_predicted = float((weight * predicted).sum() / questions)
    own = weight * np.where(labelled, label - mean, 0.0)
    other = predicted - predicted.mean() - weight * np.where(labelled, predicted - mean_predicted, 0.0)
    constant = bool(np.ptp(predicted) < 1e-12)
    power = 0.0 if constant else max(0.0, -float(own @ other) / max(float(other @ other), 1e-12))
    estimate = mean + power * (float(predicted.mean()) - mean_predicted)
    classical = _error(own, 0.0, other, count, 1)
    error = _error(own, power, other, count, 2 if power else 1)
    reach = float(stats.t.ppf((1 + confidence) / 2, count - 2))
    of_people = float(stats.t.ppf((1 + confidence) / 2, count - 1))
    correlation = _correlation(labels, predicted[labelled], weight[labelled])
    bound = math.atanh(min(max(correlation, -0.999999), 0.999999)) if not math.isnan(correlation) else 0.0
    shown = bound > float(stats.norm.ppf((1 + confidence) / 2)) / math.sqrt(count - 3)
    worth = count * (classical**2 / error**2 - 1) if error > 0 and shown else 0.0
    return PredictionPowered(
        count,
        questions,
        float(predicted.mean()),
        mean,
        *_ends(mean, of_people * classical),
        float(np.clip(estimate, 0, 1)),
        *_ends(estimate, reach * error),
        power,
        correlation,
        max(worth, 0.0),
        constant,
        bool(shown),
    )


def _error(own: Array, power: float, other: Array, count: int, fitted: int) -> float:
    """Standard error of the mean of own + power x other, corrected for what was fitted on ``count`` labels."""
    total = own + power * other
    return float(np.sqrt((total**2).sum() * count / (count - fitted)) / len(own))


def _correlation(labels: Array, predicted: Array, weight: Array) -> float:
    if np.ptp(labels) == 0 or np.ptp(predicted) < 1e-12:
        return math.nan
    covariance = np.cov(labels, predicted, aweights=weight)
    return float(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]))


def _ends(value: float, reach: float) -> tuple[float, float]:
    return max(value - reach, 0.0), min(value + reach, 1.0)
