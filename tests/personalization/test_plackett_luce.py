"""Weights from rankings, against formulas and optimizers that are not ours."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from modpo_hpc.personalization.plackett_luce import pooled, posterior_modes, shrink, terms


def rankings(coefficients: np.ndarray, count: int, items: int, seed: int) -> np.ndarray:
    """Items in the order in which personas of these coefficients rank them: utilities with Gumbel noise."""
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(len(coefficients), count, items, coefficients.shape[1]))
    utility = np.einsum("prnk,pk->prn", rewards, coefficients) + rng.gumbel(size=rewards.shape[:3])
    return np.take_along_axis(rewards, np.argsort(-utility, axis=2)[..., None], axis=2)


def all_cast(items: np.ndarray) -> np.ndarray:
    return np.ones(items.shape[:2], dtype=bool)


def test_probabilities_of_all_orders_of_one_question_sum_to_one() -> None:
    rewards, coefficients = np.random.default_rng(3).normal(size=(4, 2)), np.array([[0.7, -1.2]])
    orders = np.array([rewards[list(order)] for order in itertools.permutations(range(4))])
    told = [terms(one[None, None], np.ones((1, 1), bool), coefficients).likelihood[0] for one in orders]
    assert np.exp(told).sum() == pytest.approx(1)


def test_gradient_and_information_are_the_derivatives_of_the_likelihood() -> None:
    items, at = rankings(np.array([[1.0, -0.5, 0.2]]), 6, 4, 1), np.array([0.4, 0.3, -0.2])
    cast = np.array([[True] * 5 + [False]])

    def likelihood(beta: np.ndarray) -> float:
        return float(terms(items, cast, beta[None]).likelihood[0])

    found = terms(items, cast, at[None])
    assert found.gradient[0] == pytest.approx(approx_fprime(at, likelihood), abs=1e-4)
    curvature = [approx_fprime(at, lambda b, k=k: terms(items, cast, b[None]).gradient[0, k]) for k in range(3)]
    assert found.information[0] == pytest.approx(-np.array(curvature), abs=1e-4)


def test_population_and_posterior_modes_are_those_of_a_general_optimizer() -> None:
    truth = np.random.default_rng(5).normal((1.0, 0.0, -0.5), 0.5, size=(8, 3))
    items = rankings(truth, 12, 5, 2)
    cast = all_cast(items)
    cast[2, 4:] = False
    flat = pooled(items, cast, ridge=1e-12)
    general = minimize(lambda b: -terms(items, cast, b[None]).likelihood.sum(), np.zeros(3), tol=1e-10)
    assert flat == pytest.approx(general.x, abs=1e-4)
    modes = posterior_modes(items, cast, flat, 0.3)
    for persona in range(8):
        mine, said = items[persona : persona + 1], cast[persona : persona + 1]

        def loss(b: np.ndarray, mine: np.ndarray = mine, said: np.ndarray = said) -> float:
            return float(((b - flat) ** 2).sum() / 0.6 - terms(mine, said, b[None]).likelihood[0])

        assert modes[persona] == pytest.approx(minimize(loss, flat, tol=1e-10).x, abs=1e-4)


def test_variance_between_personas_is_found_where_there_is_some_and_zero_weights_everyone_alike() -> None:
    rng = np.random.default_rng(7)
    spread = shrink(items := rankings(rng.normal((1, 0, 0), 0.8, size=(60, 3)), 40, 5, 3), all_cast(items))
    assert 0.45 < spread.variance < 0.85, "0.64 in truth; Laplace's approximation is a little low"
    assert spread.variance < spread.variance_high
    same = [
        shrink(items := rankings(np.tile([1.0, 0.5, 0.0], (60, 1)), 20, 5, seed), all_cast(items)) for seed in range(20)
    ]
    assert sum(one.variance < 0.01 for one in same) >= 18
    none = [one for one in same if one.variance == 0]
    assert none, "half of the samples of people who weigh alike vary less than chance"
    assert all((one.personas == one.population).all() for one in none)


def test_a_persona_without_rankings_is_the_population() -> None:
    items = rankings(np.random.default_rng(1).normal(0, 1, size=(10, 2)), 15, 4, 9)
    cast = all_cast(items)
    cast[0] = False
    found = shrink(items, cast)
    assert found.variance > 0
    assert found.personas[0] == pytest.approx(found.population)
    assert 0 < found.reliability() < found.reliability(4.0) < 1
