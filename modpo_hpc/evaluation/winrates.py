"""Majority of the personas on each question, win rates of each pair, averages and rankings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

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

    def columns(self, ties: Ties) -> dict[str, NDArray[Any]]:
        """Counts and ``rates``, by the names that they have in tables."""
        rate_a, rate_b = self.rates(ties)
        return {"wins_a": self.a, "wins_b": self.b, "ties": self.ties, "win_rate_a": rate_a, "win_rate_b": rate_b}


def majorities(votes: NDArray[np.int8]) -> NDArray[np.int8]:
    """Who won each question by votes of the personas (last axis): 1 for A, -1 for B, 0 for as many on each side."""
    return np.sign(votes.sum(axis=-1, dtype=np.int32)).astype(np.int8)


def count_wins(outcomes: NDArray[np.int8]) -> Wins:
    """Wins over the questions (last axis) of ``majorities``."""
    a, b = (outcomes == 1).sum(axis=-1), (outcomes == -1).sum(axis=-1)
    return Wins(a, b, outcomes.shape[-1] - a - b, outcomes.shape[-1])


Pairs = Sequence[tuple[int, int]]
"""Pairs (A, B) of policies, by their places."""


def every_pair(policies: int) -> Pairs:
    """All pairs, in the order of ``itertools.combinations``."""
    return [(int(a), int(b)) for a, b in zip(*np.triu_indices(policies, 1), strict=True)]


def average_rates(
    rate_a: NDArray[np.float64],
    rate_b: NDArray[np.float64],
    policies: int,
    pairs: Pairs | None = None,
    anchors: Sequence[int] = (),
) -> NDArray[np.float64]:
    """Mean win rate (... x policies) of each policy over its opponents.

    ``rate_a`` and ``rate_b`` are (... x pairs); the pairs are all there are, or ``pairs``. With ``anchors`` the mean is
    over these alone, so that all policies are held against the same opponents; what an anchor wins against itself is
    left at zero. Averages are rounded to twelve decimals, so that the order in which equal rates were added makes
    nobody first.
    """
    counted = set(anchors) or set(range(policies))
    total = np.zeros((*rate_a.shape[:-1], policies))
    for pair, (a, b) in enumerate(pairs or every_pair(policies)):
        if b in counted:
            total[..., a] += rate_a[..., pair]
        if a in counted:
            total[..., b] += rate_b[..., pair]
    return np.round(total / (len(anchors) or policies - 1), 12)


def ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank along the last axis, 1 for the highest; equals share the better rank."""
    return 1 + (values[..., None, :] > values[..., :, None]).sum(axis=-1)
