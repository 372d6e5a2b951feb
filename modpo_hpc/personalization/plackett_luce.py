"""What each persona weighs, from its rankings: Plackett-Luce on the rewards, shrunk to the population.

A persona's utility of a response is the sum of its coefficients times the rewards, and the best of those that are left
is taken with a probability in proportion to exp(utility) (Luce 1959, Plackett 1975; the rank-ordered logit of Beggs,
Cardell and Hausman 1981). Coefficients of personas are a normal sample around the population's, with one variance in
all directions (of rewards in standard deviations): empirical Bayes (Efron and Morris 1973; Train 2009, chapter 11).
Arrays are (personas, rankings, items, criteria), items in the order of the ranking, best first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2

Array = NDArray[np.float64]
_STEPS, _ROUNDS, _ENOUGH = 50, 12, 1e-9
_LOG_SD = (-6.0, 2.5)  # of the persons' coefficients, in which their variance is looked for


@dataclass(frozen=True)
class Terms:
    """Log-likelihood of each persona's rankings, its gradient and its information, at given coefficients.

    Shapes (personas,), (personas, criteria), (personas, criteria, criteria).
    """

    likelihood: Array
    gradient: Array
    information: Array


@dataclass(frozen=True)
class Shrunk:
    """Coefficients of personas around those of the population.

    ``variance`` is that between personas, zero where the rankings show none; ``variance_high`` the largest that they
    allow at 95% (one-sided, by the likelihood). ``information`` is that of each persona's rankings at the population's
    coefficients.
    """

    population: Array
    personas: Array
    variance: float
    variance_high: float
    information: Array

    def reliability(self, rankings: float = 1.0, variance: float | None = None) -> float:
        """Share of the variance of shrunk coefficients that is of persons, with ``rankings`` times as many rankings.

        The mean over personas and directions of t i / (1 + t i), with the variance t and the information i.
        """
        between = self.variance if variance is None else variance
        told = between * rankings * np.linalg.eigvalsh(self.information)
        return float(np.mean(told / (1 + told)))


def terms(items: Array, cast: NDArray[np.bool_], coefficients: Array) -> Terms:
    """The likelihood of rankings where ``cast`` (personas, rankings), at ``coefficients`` (personas or 1, criteria)."""
    personas, rankings, places, criteria = items.shape
    utility = np.einsum("prnk,pk->prn", items, np.broadcast_to(coefficients, (personas, criteria)))
    utility -= utility.max(axis=2, keepdims=True)
    odds = np.exp(utility)
    left = _from_end(odds)
    mean = _from_end(odds[..., None] * items, axis=2) / left[..., None]
    counted = cast[..., None]
    likelihood = np.where(counted, utility - np.log(left), 0.0).sum(axis=(1, 2))
    gradient = np.where(counted[..., None], items - mean, 0.0).sum(axis=(1, 2))
    share = np.where(counted, odds * np.cumsum(1 / left, axis=2), 0.0)
    flat, means = items.reshape(personas, -1, criteria), np.where(counted[..., None], mean, 0.0)
    means = means.reshape(personas, -1, criteria)
    weighed = flat * share.reshape(personas, rankings * places, 1)
    information = weighed.swapaxes(1, 2) @ flat - means.swapaxes(1, 2) @ means
    return Terms(likelihood, gradient, information)


def pooled(items: Array, cast: NDArray[np.bool_], ridge: float = 1e-3) -> Array:
    """Coefficients of the population, (criteria,): the likeliest if all personas weighed alike.

    A weak ridge keeps them finite where rewards put every ranking in order.
    """
    found = np.zeros(items.shape[3])
    for _ in range(_STEPS):
        at = terms(items, cast, found[None])
        slope = at.gradient.sum(axis=0) - ridge * found
        step = np.linalg.solve(at.information.sum(axis=0) + ridge * np.eye(len(found)), slope)
        found = found + step * min(1.0, 2.0 / (np.abs(step).max() + _ENOUGH))
        if np.abs(step).max() < _ENOUGH:
            break
    return found


def shrink(items: Array, cast: NDArray[np.bool_]) -> Shrunk:
    """Coefficients of each persona, shrunk to the population by as much as its rankings leave open.

    Where all weigh alike as far as the rankings tell, they are the population's. Else the likelihood of each persona is
    taken for quadratic around the mode of its posterior, variance and population are the likeliest under that, and so
    on in turn (penalized quasi-likelihood, Breslow and Clayton 1993).
    """
    population = pooled(items, cast)
    at = terms(items, cast, population[None])
    information = at.information
    variance, high = _variance(at.gradient, information)
    personas = np.repeat(population[None], items.shape[0], axis=0)
    for _ in range(_ROUNDS):
        if variance == 0:
            break
        personas = posterior_modes(items, cast, population, variance, personas)
        at, before = terms(items, cast, personas), variance
        told = at.gradient + np.einsum("pkl,pl->pk", at.information, personas)
        population = _population(told, at.information, variance)
        variance, high = _variance(told - at.information @ population, at.information)
        if abs(variance - before) < 1e-3 * before:
            break
    if variance > 0:
        personas = posterior_modes(items, cast, population, variance, personas)
    else:
        personas = np.repeat(population[None], items.shape[0], axis=0)
    return Shrunk(population, personas, variance, high, information)


def _population(told: Array, information: Array, variance: float) -> Array:
    """The mean of coefficients that were each measured with ``information``: by generalized least squares."""
    weighed = np.linalg.inv(np.eye(told.shape[1]) + variance * information)
    total = (weighed @ information).sum(axis=0) + 1e-9 * np.eye(told.shape[1])
    found: Array = np.linalg.solve(total, (weighed @ told[..., None]).sum(axis=0)[:, 0])
    return found


def posterior_modes(
    items: Array, cast: NDArray[np.bool_], population: Array, variance: float, begin: Array | None = None
) -> Array:
    """The likeliest coefficients of each persona, (personas, criteria), if they are normal around ``population``.

    The search starts from ``begin``; what it finds does not depend on that.
    """
    found = np.repeat(population[None], items.shape[0], axis=0) if begin is None else begin
    prior = np.eye(len(population)) / variance
    for _ in range(_STEPS):
        at = terms(items, cast, found)
        slope = at.gradient - (found - population) / variance
        step = np.linalg.solve(at.information + prior, slope[..., None])[..., 0]
        found = found + step * np.minimum(1.0, 2.0 / (np.abs(step).max(axis=1, keepdims=True) + _ENOUGH))
        if np.abs(step).max() < 1e-7:
            break
    return found


def _variance(scores: Array, information: Array) -> tuple[float, float]:
    """The likeliest variance between personas, and the largest that a one-sided 95% bound leaves.

    ``scores`` are the slopes of the personas' likelihoods at the population's coefficients: normal, with the variance
    ``information + variance * information ** 2``.
    """
    values, vectors = np.linalg.eigh(information)
    values = np.maximum(values, 0.0)
    squares = np.einsum("pkd,pk->pd", vectors, scores) ** 2

    def gain(log_sd: float) -> float:
        """Log-likelihood beyond that of personas who weigh alike."""
        variance = _variance_of(log_sd)
        told = 1 + variance * values
        return float(0.5 * (variance * squares / told - np.log(told)).sum())

    lowest, highest = _LOG_SD
    best = float(minimize_scalar(lambda one: -gain(one), bounds=_LOG_SD, method="bounded", options={"xatol": 1e-4}).x)
    top = max(gain(best), 0.0)
    bound = top - float(chi2.ppf(0.90, 1)) / 2
    if gain(highest) <= bound:
        highest = brentq(lambda one: gain(one) - bound, best if top > 0 else lowest, highest)
    return (_variance_of(best) if top > 0 else 0.0), _variance_of(highest)


def _variance_of(log_sd: float) -> float:
    return float(np.exp(2 * log_sd))


def _from_end(values: Array, axis: int = 2) -> Array:
    """Sums from each place to the last one."""
    return np.flip(np.cumsum(np.flip(values, axis), axis=axis), axis)
