"""Agreement of a judge with itself, against truths that were simulated."""

from __future__ import annotations

import numpy as np
import pytest

from modpo_hpc.evaluation.self_agreement import Answers, self_agreement


def drawn(rng: np.random.Generator, comparisons: int, order: float) -> Answers:
    """A judge with a probability for A of each comparison, question and persona having a part in it.

    ``order`` is the chance that it takes what is shown first, whatever that is.
    """
    questions, personas = rng.integers(0, 40, comparisons), rng.integers(0, 20, comparisons)
    level = rng.standard_normal(40)[questions] + 0.5 * rng.standard_normal(20)[personas]
    prefers = 1 / (1 + np.exp(-2 * level))
    a_first = rng.random(comparisons) < 0.5
    counts = []
    for first, samples in ((a_first, 3), (~a_first, 1)):
        chance = order * first + (1 - order) * prefers
        won = rng.binomial(samples, chance)
        counts.append(np.stack([won, samples - won, np.zeros(comparisons)], axis=1).astype(float))
    return Answers(counts[0], counts[1], a_first, questions, personas)


def truth(order: float) -> tuple[float, float]:
    """Flips and excess of :func:`drawn`, by integration over the level."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    prefers = 1 / (1 + np.exp(-2 * np.sqrt(1.25) * nodes))
    weights = weights / weights.sum()
    one, other = order + (1 - order) * prefers, (1 - order) * prefers
    # A is first in one half of the comparisons
    flips = float(weights @ (one * (1 - one) + other * (1 - other)))
    turned = float(weights @ (one * (1 - other) + other * (1 - one)))
    return flips, turned - flips


@pytest.mark.parametrize("order", [0.0, 0.3])
def test_intervals_hold_the_truth_as_often_as_they_say(order: float) -> None:
    rng = np.random.default_rng(11)
    flips, excess = truth(order)
    found = [self_agreement(drawn(rng, 200, order), 1000) for _ in range(400)]
    held = np.mean([one["flips_low"] <= flips <= one["flips_high"] for one in found])
    more = np.mean([one["excess_low"] <= excess <= one["excess_high"] for one in found])
    assert held >= 0.92
    assert 0.90 <= more <= 0.99
    assert np.mean([one["flips"] for one in found]) == pytest.approx(flips, abs=0.01)
    assert np.mean([one["excess"] for one in found]) == pytest.approx(excess, abs=0.01)


def test_the_noise_is_that_of_a_share_that_is_asked_again() -> None:
    rng = np.random.default_rng(3)
    prefers = rng.random(5000)
    won = rng.binomial(3, prefers)
    same = np.stack([won, 3 - won, np.zeros(5000)], axis=1).astype(float)
    answers = Answers(same, np.zeros((5000, 3)), np.ones(5000, bool), np.arange(5000) % 100, np.arange(5000) % 50)
    shares = rng.binomial(1, np.tile(prefers[:500], (4000, 1))).mean(axis=1)
    assert self_agreement(answers, 500)["noise"] == pytest.approx(shares.std(), rel=0.1)


def test_what_cannot_be_compared_is_no_number() -> None:
    one = np.array([[1.0, 0.0, 0.0]])
    alone = Answers(one, one, np.array([True]), np.array([0]), np.array([0]))
    found = self_agreement(alone, 10)
    assert found.pop("comparisons") == 0
    assert all(value != value for value in found.values())
