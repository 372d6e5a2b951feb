"""Majority of the personas on each question, win rates of each pair, averages and rankings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ties = Literal["none", "half"]


@dataclass(frozen=True)
class Wins:
    """Questions won in each cell (criteria x pairs) by A, by B, and tied; ``questions`` is the denominator."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    ties: NDArray[np.int64]
    questions: int

    def rates(self, ties: Ties = "none") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Win rates of A and of B: a share of all questions. A tie counts for nobody, or ``half`` for each."""
        share = 0.5 * self.ties if ties == "half" else np.zeros_like(self.ties, dtype=float)
        return (self.a + share) / self.questions, (self.b + share) / self.questions


def majorities(votes: NDArray[np.int8]) -> NDArray[np.int8]:
    """Who won each question by votes of the personas (last axis): 1 for A, -1 for B, 0 for as many on each side."""
    return np.sign(votes.sum(axis=-1, dtype=np.int32)).astype(np.int8)


def count_wins(outcomes: NDArray[np.int8]) -> Wins:
    """Wins over the questions (last axis) of ``majorities``."""
    a, b = (outcomes == 1).sum(axis=-1), (outcomes == -1).sum(axis=-1)
    return Wins(a, b, outcomes.shape[-1] - a - b, outcomes.shape[-1])


def average_rates(rate_a: NDArray[np.float64], rate_b: NDArray[np.float64], policies: int) -> NDArray[np.float64]:
    """Mean win rate (... x policies) of each policy over its opponents.

    ``rate_a`` and ``rate_b`` are (... x pairs), the pairs in the order of ``itertools.combinations``. Averages are
    rounded to twelve decimals, so that the order in which equal rates were added makes nobody first.
    """
    row, column = np.triu_indices(policies, 1)
    total = np.zeros((*rate_a.shape[:-1], policies))
    for pair, (a, b) in enumerate(zip(row, column, strict=True)):
        total[..., a] += rate_a[..., pair]
        total[..., b] += rate_b[..., pair]
    return np.round(total / (policies - 1), 12)


def ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank along the last axis, 1 for the highest; equals share the better rank."""
    return 1 + (values[..., None, :] > values[..., :, None]).sum(axis=-1)
