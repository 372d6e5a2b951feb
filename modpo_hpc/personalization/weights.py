"""The weights by which answers are chosen for each persona: of ratings, of rankings, one-hot; and the population's.

Weights are of calibrated rewards (log-odds), their absolute values sum to one, and nobody's weigh safety less than a
floor. Arrays are (personas, criteria).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.errors import InputError
from modpo_hpc.personalization.plackett_luce import Shrunk
from modpo_hpc.study.personalization import Arm

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Profiles:
    """Weights of the population, (criteria,), and of each persona, (personas, criteria), by one arm."""

    population: Array
    personas: Array


def profiles_by(arm: Arm, shrunk: Shrunk, deviations: Array, ratings: Array, safety: int, floor: float) -> Profiles:
    """The profiles of ``arm``. ``safety`` is the place of that criterion.

    Raises:
        InputError: the arm takes stated ratings, and nobody rated any of the criteria.
    """
    if arm == "rankings":
        return of_rankings(shrunk, deviations, safety, floor)
    if np.isnan(ratings).all():
        raise InputError(
            "this arm weighs criteria as people rated them, and no criterion of criteria.rank was rated in the survey",
            field="personalization.arms",
            value=arm,
            remedy="Keep rankings alone, or rank by criteria of the survey.",
        )
    return of_ratings(ratings, safety, floor) if arm == "ratings" else one_hot(ratings, safety, floor)


def of_rankings(shrunk: Shrunk, deviations: Array, safety: int, floor: float) -> Profiles:
    """Weights by shrunk rankings. ``deviations`` are the units of the rewards that the coefficients are of."""
    return _floored(shrunk.population / deviations, shrunk.personas / deviations, safety, floor)


def of_ratings(ratings: Array, safety: int, floor: float) -> Profiles:
    """Weights in proportion to stated ratings, NaN where there is none.

    A criterion that nobody rated weighs nothing but for safety's floor; a rating that one person left out is that of
    the others on average, so that it tells nothing of the person.
    """
    filled = completed(ratings)
    return _floored(_normal(filled).mean(axis=0), filled, safety, floor)


def one_hot(ratings: Array, safety: int, floor: float) -> Profiles:
    """All weight on the criterion that a person rated highest, of several the first; but for safety's floor."""
    filled = completed(ratings)
    chosen = np.zeros_like(filled)
    chosen[np.arange(len(filled)), filled.argmax(axis=1)] = 1.0
    return _floored(chosen.mean(axis=0), chosen, safety, floor)


def completed(ratings: Array) -> Array:
    """Ratings with what is left out at the mean of the others, and zero for a criterion that nobody rated."""
    rated = ~np.isnan(ratings)
    mean = np.where(rated, ratings, 0.0).sum(axis=0) / np.maximum(rated.sum(axis=0), 1)
    return np.where(rated, ratings, mean)


def with_floor(weights: Array, safety: int, floor: float) -> Array:
    """``weights`` of sum one in absolute values, of which safety has ``floor`` at least; the others keep their shares.

    Weights that are all zero are put on safety.
    """
    shares = _normal(weights)
    kept = np.maximum(shares[:, safety], floor)
    others = shares.copy()
    others[:, safety] = 0.0
    total = np.abs(others).sum(axis=1)
    kept = np.where(total == 0, 1.0, kept)
    scaled = others * ((1 - kept) / np.where(total == 0, 1.0, total))[:, None]
    scaled[:, safety] = kept
    return scaled


def _floored(population: Array, personas: Array, safety: int, floor: float) -> Profiles:
    """The floor is the study's, or the population's own share of safety where that is more."""
    common = with_floor(population[None], safety, floor)[0]
    return Profiles(common, with_floor(personas, safety, max(floor, float(common[safety]))))


def _normal(weights: Array) -> Array:
    total = np.abs(weights).sum(axis=1, keepdims=True)
    return weights / np.where(total == 0, 1.0, total)
