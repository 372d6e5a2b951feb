"""How often a reward model agrees with the votes, and how sure that figure is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modpo_hpc.rewards.records import Comparison


@dataclass(frozen=True)
class PairQuality:
    """Accuracy and mean Bradley-Terry loss (nats) over pairs."""

    accuracy: float
    loss: float
    pairs: int


def differences(rewards: Mapping[str, float], comparisons: Sequence[Comparison]) -> np.ndarray:
    """Reward of the best less that of the worst response, float64 of shape (comparisons,)."""
    return np.array([rewards[one.responses[0]] - rewards[one.responses[-1]] for one in comparisons], dtype=np.float64)


def pair_quality(difference: np.ndarray) -> PairQuality:
    """Quality from reward differences of shape (pairs,); an exact tie counts half."""
    accuracy = float(np.mean((difference > 0) + 0.5 * (difference == 0)))
    return PairQuality(accuracy, float(np.mean(np.logaddexp(0.0, -difference))), len(difference))
