"""Weights, the gate and the comparison, against slow formulas written out and against what must be so."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from modpo_hpc.personalization import gate, power, weights
from modpo_hpc.personalization.comparison import (
    choices,
    compare,
    derangement,
    is_finding,
    persona_safety,
    preferred,
    safety_of,
)
from modpo_hpc.personalization.plackett_luce import Shrunk, shrink
from modpo_hpc.personalization.weights import Profiles
from tests.personalization.test_plackett_luce import all_cast, rankings


def places_by(rewards: np.ndarray, tastes: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    liked = np.einsum("qnc,pc->pqn", rewards, tastes)
    return np.argsort(np.argsort(-(liked + noise * rng.normal(size=liked.shape)), axis=2), axis=2)


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards (40 questions, 4 candidates, 3 criteria), tastes of 8 personas, and their places."""
    rng = np.random.default_rng(11)
    rewards, tastes = rng.normal(size=(40, 4, 3)), rng.normal(size=(8, 3))
    return rewards, tastes, places_by(rewards, tastes, 1.0, rng)


def test_the_effect_is_the_mean_over_personas_others_and_questions_written_out(world) -> None:
    rewards, tastes, places = world
    cast = np.random.default_rng(3).random((8, 40)) > 0.1
    profiles = Profiles(tastes.mean(axis=0), tastes)
    found = compare(rewards, profiles, places, cast, 0.95, 99, np.random.default_rng(0))
    wins, differ = [], []
    by_judge: dict[int, list[float]] = {judge: [] for judge in range(8)}
    for judge, owner, question in itertools.product(range(8), range(8), range(40)):
        if judge == owner:
            continue
        mine = int((rewards[question] @ tastes[judge]).argmax())
        other = int((rewards[question] @ tastes[owner]).argmax())
        differ.append(mine != other)
        if cast[judge, question]:
            place = places[judge, question]
            wins.append(0.5 if mine == other else float(place[mine] < place[other]))
            by_judge[judge].append(wins[-1])
    assert found.other.estimate == pytest.approx(np.mean(wins) - 0.5)
    assert found.other.differs == pytest.approx(np.mean(differ))
    assert found.other.low < found.other.estimate < found.other.high
    assert found.persona_effects == pytest.approx([np.mean(one) - 0.5 for one in by_judge.values()])


def test_the_p_value_is_that_of_all_permutations(world) -> None:
    rewards, tastes, places = world
    few = slice(0, 5)
    cast = np.ones((5, 40), bool)
    profiles = Profiles(tastes[few].mean(axis=0), tastes[few])
    found = compare(rewards, profiles, places[few], cast, 0.95, 4000, np.random.default_rng(1))
    chosen = choices(rewards, tastes[few])

    def effect(dealt: tuple[int, ...]) -> float:
        total = 0.0
        for judge in range(5):
            for other in range(5):
                if other != dealt[judge]:
                    one = chosen[dealt[judge]][None], chosen[other][None]
                    total += preferred(places[few][[judge]], *one).mean()
        return total / 20 - 0.5

    every = [effect(dealt) for dealt in itertools.permutations(range(5))]
    assert effect((0, 1, 2, 3, 4)) == pytest.approx(found.other.estimate)
    assert np.mean(every) == pytest.approx(0)
    assert found.other.p == pytest.approx(np.mean(np.array(every) >= found.other.estimate - 1e-12), abs=0.02)


def test_weights_dealt_to_strangers_reject_as_often_as_chance_and_own_weights_always() -> None:
    rng = np.random.default_rng(5)
    rejected, found = [], []
    for _ in range(100):
        rewards, tastes = rng.normal(size=(30, 4, 3)), rng.normal(size=(12, 3))
        places = places_by(rewards, tastes, 1.0, rng)
        cast = np.ones((12, 30), bool)
        dealt = Profiles(tastes.mean(axis=0), tastes[rng.permutation(12)])
        rejected.append(compare(rewards, dealt, places, cast, 0.95, 199, rng).other.p <= 0.05)
        own = compare(rewards, Profiles(tastes.mean(axis=0), tastes), places, cast, 0.95, 199, rng)
        found.append(is_finding(own.other, own.other.p, 0.05, 0.01))
        assert abs(own.deranged.estimate) < own.other.estimate
    assert stats.binomtest(sum(rejected), 100, 0.05, "greater").pvalue > 0.01
    assert np.mean(found) > 0.95


def test_personas_who_choose_alike_are_even_without_a_judgment(world) -> None:
    rewards, tastes, places = world
    same = Profiles(tastes[0], np.tile(tastes[0], (8, 1)))
    found = compare(rewards, same, places, np.ones((8, 40), bool), 0.95, 99, np.random.default_rng(0))
    assert (found.other.estimate, found.other.differs, found.other.p) == (0, 0, 1)
    assert not is_finding(found.other, 0.001, 0.05, 0.0)


def test_a_stranger_is_never_oneself() -> None:
    for count in (2, 3, 9):
        for seed in range(20):
            dealt = derangement(count, np.random.default_rng(seed))
            assert sorted(dealt) == list(range(count))
            assert (dealt != np.arange(count)).all()


def test_safety_counts_what_personal_answers_win_and_lose_and_names_who_loses_most() -> None:
    rng = np.random.default_rng(2)
    rewards = rng.normal(size=(200, 4, 2))
    careful, careless = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    everyone = np.vstack([np.tile(careful, (9, 1)), careless])
    places = np.argsort(np.argsort(-np.tile(rewards[None, ..., 1], (10, 1, 1)), axis=2), axis=2)
    cast = np.ones((10, 200), bool)
    found = safety_of(rewards, Profiles(careful, everyone), places, cast, 0.05, 0.95)
    differs = (rewards[..., 0].argmax(axis=1) != rewards[..., 1].argmax(axis=1)).mean()
    assert found.worst == 9
    assert found.worst_test.difference == pytest.approx(-differs)
    assert found.difference == pytest.approx(-differs / 10)
    assert not found.non_inferior
    protected = weights.with_floor(everyone, safety=1, floor=0.95)
    safe = safety_of(rewards, Profiles(careful, protected), places, cast, 0.05, 0.95)
    assert safe.non_inferior
    assert safe.worst_test.difference > found.worst_test.difference
    assert persona_safety(rewards, Profiles(careful, protected), places, cast, 0, 0.05, 0.95).difference == 0


def test_nobody_weighs_safety_less_than_the_floor_and_the_others_keep_their_proportions() -> None:
    raw = np.array([[4.0, -2.0, 0.0], [1.0, 1.0, 2.0], [0.0, 0.0, 0.0], [1.0, 1.0, -5.0]])
    floored = weights.with_floor(raw, safety=2, floor=0.2)
    assert np.abs(floored).sum(axis=1) == pytest.approx(1)
    assert floored[:, 2] == pytest.approx([0.2, 0.5, 1.0, 0.2])
    assert floored[0, 0] / floored[0, 1] == pytest.approx(-2)
    ratings = np.array([[5.0, 3.0, np.nan], [2.0, np.nan, np.nan]])
    stated = weights.of_ratings(ratings, safety=2, floor=0.1)
    assert stated.personas == pytest.approx(
        np.array([[0.9 * 5 / 8, 0.9 * 3 / 8, 0.1], [0.9 * 2 / 5, 0.9 * 3 / 5, 0.1]])
    )
    assert weights.one_hot(ratings, safety=2, floor=0.1).personas == pytest.approx(
        np.array([[0.9, 0.0, 0.1], [0.0, 0.9, 0.1]])
    )


def test_the_population_cares_for_safety_so_nobody_may_care_less() -> None:
    shrunk = shrink(items := rankings(np.tile([0.5, 1.5], (6, 1)), 30, 4, 1), all_cast(items))
    careless = np.array([[1.0, 0.0]])
    profiles = weights.of_rankings(
        type(shrunk)(shrunk.population, careless, 1.0, 1.0, shrunk.information), np.ones(2), safety=1, floor=0.1
    )
    assert profiles.personas[0, 1] == pytest.approx(profiles.population[1])
    assert profiles.personas[0, 1] > 0.6


def gate_of(spread: float, seed: int) -> tuple[gate.Gate, Shrunk]:
    rng = np.random.default_rng(seed)
    tastes = rng.normal((1.0, 0.5, 0.0), spread, size=(25, 3))
    items = rankings(tastes, 20, 4, seed)
    ratings = np.clip(np.round(tastes + 3), 1, 5) if spread else rng.integers(1, 6, size=(25, 3)).astype(float)
    shrunk = shrink(items, all_cast(items))
    return gate.gate(items, all_cast(items), shrunk, ratings, 0.05, 199, rng), shrunk


def test_the_gate_opens_where_personas_differ_and_says_how_many_rankings_it_takes() -> None:
    found, shrunk = gate_of(0.8, 8)
    assert found.something
    assert found.reliability > 0.7
    assert found.p_stated == found.p_split_half == 1 / 200
    assert found.needed is not None
    fewer = (found.needed - 1) / found.rankings
    assert shrunk.reliability(fewer) < gate.RELIABLE <= shrunk.reliability(found.needed / found.rankings)
    assert "There is something to personalize" in " ".join(gate.sentences(found, 0.05))


def test_the_gate_stays_shut_where_personas_weigh_alike_but_for_chance() -> None:
    every = [gate_of(0.0, seed)[0] for seed in range(60)]
    for p in ([one.p_split_half for one in every], [one.p_stated for one in every]):
        assert stats.binomtest(sum(one <= 0.05 for one in p), 60, 0.05, "greater").pvalue > 0.01
    shut = next(one for one in every if not one.something)
    told = " ".join(gate.sentences(shut, 0.05))
    assert "nothing to personalize" in told
    assert shut.needed is not None
    assert f"{shut.needed:,} rankings of each, if even that" in told
    assert shut.needed > shut.rankings


def test_the_interval_of_the_planned_number_of_questions_has_the_planned_power() -> None:
    needed = power.questions_needed(50, 0.01, 0.05, 0.8)
    assert needed is not None
    reach = stats.norm.ppf(0.975)
    assert stats.norm.sf(reach - 0.01 / power.error(50, needed)) == pytest.approx(0.8, abs=0.005)
    assert power.questions_needed(10, 0.01, 0.05, 0.8) is None, "ten personas differ too much among themselves"
    assert power.questions_needed(50, 0.02, 0.05, 0.8) < needed < power.questions_needed(50, 0.01, 0.05, 0.9)
