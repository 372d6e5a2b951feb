"""Before anything is made for anybody: is there something to personalize?

Two questions to the rankings of the personas: do two halves of one persona's rankings agree more with each other than
with the halves of others (split-half reliability), and do people's stated ratings go with what their rankings show?
Both are tested by giving the halves, or the ratings, to other personas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from modpo_hpc.personalization.plackett_luce import Array, Shrunk, pooled, terms

RELIABLE = 0.7
"""Reliability from which weights are of use for research on groups (Nunnally 1978)."""
_PRIOR = 1.0  # variance around the population at which the halves are read; the same for all personas
_MOST = 1e6


@dataclass(frozen=True)
class Gate:
    """What the rankings of ``personas`` show of their weights.

    ``split_half`` is the correlation, over personas and criteria, of deviations from the population in two halves of
    the rankings; ``reliability`` that of all rankings, by Spearman and Brown. ``deviation`` is the standard deviation
    between personas of coefficients of standardized rewards, ``deviation_high`` the largest that the rankings allow at
    95%. ``stated`` is the correlation of stated ratings with shown weights; NaN where nothing was rated. ``needed``
    rankings of each persona make its shrunk weights reliable (``RELIABLE``) at ``deviation``, or at
    ``deviation_high`` where the halves do not agree; None if no number would.
    """

    personas: int
    rankings: int
    split_half: float
    reliability: float
    p_split_half: float
    deviation: float
    deviation_high: float
    stated: float
    p_stated: float
    needed: int | None
    something: bool


def gate(
    items: Array,
    cast: NDArray[np.bool_],
    shrunk: Shrunk,
    ratings: Array,
    alpha: float,
    draws: int,
    rng: np.random.Generator,
) -> Gate:
    """The gate of rankings ``items`` where ``cast`` (see :mod:`plackett_luce`), and of ``ratings``, NaN where none."""
    population = pooled(items, cast)
    turn = np.arange(items.shape[1]) % 2
    halves = [deviations(items[:, turn == one], cast[:, turn == one], population) for one in (0, 1)]
    split, p_split = _correlation(halves[0], halves[1], draws, rng)
    rated = np.isfinite(ratings).all(axis=0)
    stated, p_stated = math.nan, math.nan
    if rated.sum() > 1:
        shown = deviations(items, cast, population)[:, rated]
        shown = shown - shown.mean(axis=1, keepdims=True)
        said = ratings[:, rated] - ratings[:, rated].mean(axis=1, keepdims=True)
        stated, p_stated = _correlation(said - said.mean(axis=0), shown, draws, rng)
    something = p_split <= alpha
    variance = shrunk.variance if something and shrunk.variance > 0 else shrunk.variance_high
    count = int(cast.sum(axis=1).mean())
    return Gate(
        len(items),
        count,
        split,
        max(0.0, 2 * split / (1 + split)),
        p_split,
        math.sqrt(shrunk.variance),
        math.sqrt(shrunk.variance_high),
        stated,
        p_stated,
        _needed(shrunk, variance, count),
        something,
    )


def deviations(items: Array, cast: NDArray[np.bool_], population: Array) -> Array:
    """How each persona's weights seem to deviate from ``population``, less the mean of all: (personas, criteria)."""
    at = terms(items, cast, population[None])
    found = np.linalg.solve(at.information + np.eye(len(population)) / _PRIOR, at.gradient[..., None])[..., 0]
    return np.asarray(found - found.mean(axis=0))


def sentences(found: Gate, alpha: float) -> list[str]:
    """The gate in words."""
    first = (
        f"{found.personas} personas gave {found.rankings} rankings each. Two halves of a persona's rankings "
        f"correlate {found.split_half:.2f} (reliability of all {found.reliability:.2f}, "
        f"{_p(found.p_split_half)} by permutation of the personas)."
    )
    stated = (
        "No two criteria were rated by all, so stated ratings cannot be held against shown preferences."
        if math.isnan(found.stated)
        else f"Stated ratings correlate {found.stated:.2f} with what the rankings show ({_p(found.p_stated)})."
    )
    if found.something:
        verdict = (
            f"There is something to personalize: weights differ by a standard deviation of {found.deviation:.2f} "
            f"between personas (per standard deviation of a reward)."
        )
        for_whom = "that"
    else:
        verdict = (
            f"There is nothing to personalize, as far as these rankings tell at {alpha:g}: weights differ between "
            f"personas by a standard deviation of {found.deviation_high:.2f} at most."
        )
        for_whom = "even that"
    more = (
        f"To know a persona's weights with a reliability of {RELIABLE:g} would take {found.needed:,} rankings of each, "
        f"if {for_whom} is how much they differ."
        if found.needed is not None
        else f"No number of rankings would give weights a reliability of {RELIABLE:g}."
    )
    return [first, stated, verdict, more]


def _p(value: float) -> str:
    return "p < .001" if value < 0.001 else f"p = {value:.3f}"


def _correlation(one: Array, other: Array, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Correlation over all cells of two tables of deviations, and its one-sided p where rows of one are permuted."""
    size = math.sqrt(float((one**2).sum() * (other**2).sum()))
    if size == 0:
        return 0.0, 1.0
    products = one @ other.T / size
    found = float(np.trace(products))
    return found, permutation_p(products, found, draws, rng)


def permutation_p(matrix: Array, found: float, draws: int, rng: np.random.Generator) -> float:
    """One-sided p-value of the trace ``found`` of ``matrix`` when its columns are dealt out to the rows at random.

    The identity counts among the ``draws`` permutations (Phipson and Smyth 2010).
    """
    count = len(matrix)
    dealt = rng.permuted(np.tile(np.arange(count), (draws, 1)), axis=1)
    traces = matrix[np.arange(count), dealt].sum(axis=1)
    return float((1 + (traces >= found - 1e-12).sum()) / (1 + draws))


def _needed(shrunk: Shrunk, variance: float, rankings: int) -> int | None:
    def short(times: float) -> float:
        return shrunk.reliability(times, variance) - RELIABLE

    if variance <= 0 or rankings == 0 or short(_MOST) < 0:
        return None
    return math.ceil(rankings * brentq(short, 0.0, _MOST, xtol=1e-6))
