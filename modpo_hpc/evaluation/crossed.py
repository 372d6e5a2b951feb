"""Variance components of votes in the crossed design of questions and personas."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm


@dataclass(frozen=True)
class Components:
    """Mean of the votes of a cell, its variance components, and what they mean for the mean.

    ``icc`` is the correlation of the votes of two personas on one question. ``effective`` is the number of
    independent votes that would tell the mean as well as ``votes`` votes do.
    """

    mean: float
    question: float
    persona: float
    residual: float
    votes: int
    error: float

    @property
    def icc(self) -> float:
        total = self.question + self.persona + self.residual
        return self.question / total if total > 0 else nan

    @property
    def effective(self) -> float:
        total = self.question + self.persona + self.residual
        return min(float(self.votes), total / self.error**2) if self.error > 0 else float(self.votes)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Bounds of the mean, normal over questions and personas."""
        reach = float(norm.ppf((1 + confidence) / 2)) * self.error
        return self.mean - reach, self.mean + reach


def components(values: NDArray[np.float64], cast: NDArray[np.bool_]) -> Components:
    """Components of ``values`` (questions x personas) where ``cast``, by products of pairs of votes.

    Two votes on one question share its effect, two votes of one persona share hers, two others share the mean only;
    the averages of their products are unbiased whatever is missing, and equal the analysis of variance where nothing
    is. Negative estimates are set to zero.
    """
    x = np.where(cast, values, 0.0).astype(float)
    n = int(cast.sum())
    if n == 0:
        return Components(nan, nan, nan, nan, 0, nan)
    row_n, column_n = cast.sum(axis=1), cast.sum(axis=0)
    squares = float((x**2).sum())
    row, column, total = float((x.sum(axis=1) ** 2).sum()), float((x.sum(axis=0) ** 2).sum()), float(x.sum()) ** 2
    row_pairs, column_pairs = int((row_n**2).sum()) - n, int((column_n**2).sum()) - n
    other_pairs = n * n - row_pairs - column_pairs - n
    same_question = _ratio(row - squares, row_pairs)
    same_persona = _ratio(column - squares, column_pairs)
    apart = _ratio(total - row - column + squares, other_pairs)
    question, persona = max(same_question - apart, 0.0), max(same_persona - apart, 0.0)
    residual = max(squares / n - same_question - same_persona + apart, 0.0)
    variance = question * float((row_n**2).sum()) / n**2 + persona * float((column_n**2).sum()) / n**2 + residual / n
    return Components(float(x.sum()) / n, question, persona, residual, n, float(np.sqrt(variance)))


def components_of_panel(votes: NDArray[np.generic], cast: NDArray[np.bool_]) -> Components:
    """Components of votes (questions x judges x personas; 0 where none is there).

    A persona's vote is the mean of what its judges said: they speak for one person.
    """
    heard = cast.sum(axis=1)
    return components(votes.sum(axis=1) / np.maximum(heard, 1), heard > 0)


def _ratio(products: float, pairs: int) -> float:
    return products / pairs if pairs else 0.0
