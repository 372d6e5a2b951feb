"""Which questions people should judge next: those whose labels narrow the interval of a corrected win rate most.

Active statistical inference (Zrnic and Candes 2024, arXiv 2403.03208): questions are drawn with a probability that
grows with how far the judge's share of votes is expected to be from what people say, never zero, and known, so that
weighting by it keeps the estimate unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]
FEWEST_LABELS = 20
UNIFORM_PART = 0.5


@dataclass(frozen=True)
class Design:
    """``inclusion`` is the probability of each question to be drawn, ``expected`` its expected squared error.

    ``saving`` is the share of a random sample's labels that this design is expected to save at equal width.
    """

    inclusion: Array
    expected: Array
    saving: float


def design(predicted: Array, labelled: NDArray[np.bool_], residuals: Array, size: int) -> Design:
    """A design for ``size`` more labels among the questions that are not ``labelled``.

    Args:
        predicted: share of the votes for A of each question, ties as halves.
        residuals: people's label (1, .5 or 0) less the prediction, of the labelled questions, in their order. With
            fewer than 20 of them the votes are taken at their word: the expected squared error of a share f is f(1-f).
    """
    expected = expected_errors(predicted, predicted[labelled], residuals)
    reach = np.sqrt(expected)
    mixed = (1 - UNIFORM_PART) * reach / max(float(reach.mean()), 1e-12) + UNIFORM_PART
    left = ~labelled
    inclusion = _scaled(mixed, left, size)
    ours = float((expected[left] / inclusion[left]).sum())
    at_random = float(expected[left].sum()) * left.sum() / size
    return Design(inclusion, expected, 1 - ours / at_random if at_random > 0 else 0.0)


def expected_errors(predicted: Array, at: Array, residuals: Array) -> Array:
    """Expected squared distance of people's label from the prediction, from how split the votes are."""
    if len(residuals) < FEWEST_LABELS:
        return np.maximum(predicted * (1 - predicted), 1e-4)
    # squared errors on how split the votes are, neither coefficient below zero
    columns = np.column_stack([np.ones_like(at), 4 * at * (1 - at)])
    coefficients, _ = nnls(columns, (residuals - residuals.mean()) ** 2)
    return np.maximum(coefficients[0] + coefficients[1] * 4 * predicted * (1 - predicted), 1e-4)


def draw(inclusion: Array, eligible: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of the questions drawn: systematic sampling in random order, so that each has its probability exactly.

    The number drawn is the sum of ``inclusion`` over the ``eligible``, which must be whole.
    """
    order = rng.permutation(np.flatnonzero(eligible))
    steps = np.cumsum(inclusion[order])
    marks = rng.random() + np.arange(round(float(steps[-1])))
    return np.sort(order[np.searchsorted(steps, np.minimum(marks, steps[-1] - 1e-12), side="right")])


def _scaled(weights: Array, eligible: NDArray[np.bool_], size: int) -> Array:
    """Probabilities in proportion to ``weights``, at most 1, that sum to ``size`` over the ``eligible``."""
    low, high = 0.0, size / float(weights[eligible].min())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1.0, middle * weights[eligible]).sum() < size else (low, middle)
    return np.minimum(1.0, high * weights)
