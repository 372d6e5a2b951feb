"""Abilities, variance components, groups, length, position: against other software and planted truths."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from modpo_hpc.evaluation import bradley_terry, groups
from modpo_hpc.evaluation.ballots import collect
from modpo_hpc.evaluation.crossed import components
from modpo_hpc.evaluation.length_control import length_controlled
from modpo_hpc.evaluation.position import position_bias
from tests.synthetic_verdicts import STRENGTH, judged

POLICIES = ("Base", "SFT_Empathy", "DPO_Empathy", "MODPO_Empathy")
PAIRS = list(combinations(range(4), 2))


def votes_and_cast(questions: int = 30, personas: int = 12, **habits: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One criterion's votes, cast and first."""
    names = [f"q{k}" for k in range(questions)], [f"p{k}" for k in range(personas)]
    table: pa.Table = judged(STRENGTH, "phase1", POLICIES, ("empathy",), *names, **habits)
    ballots = collect(table, "phase1", POLICIES, ("empathy",), *names)
    return ballots.votes[0], ballots.cast[0], ballots.first[0]


def test_abilities_without_ties_are_those_of_statsmodels_with_its_two_way_clusters() -> None:
    votes, cast, _ = votes_and_cast(ties=0.0, unparsed=0.03)
    fitted = bradley_terry.fit(votes, cast, 4, prior=0.0)
    pair, question, persona = np.nonzero(cast)
    design = np.zeros((len(pair), 4))
    design[np.arange(len(pair)), [PAIRS[p][0] for p in pair]] = 1
    design[np.arange(len(pair)), [PAIRS[p][1] for p in pair]] -= 1
    won = votes[pair, question, persona] == 1
    model = sm.GLM(won.astype(float), design[:, 1:], family=sm.families.Binomial())
    theirs = model.fit(
        cov_type="cluster", cov_kwds={"groups": np.column_stack([question, persona]), "use_correction": True}
    )
    ability = np.concatenate([[0.0], theirs.params])
    np.testing.assert_allclose(fitted.ability, ability - ability.mean(), atol=1e-7)
    centring = (np.eye(4) - 0.25)[:, 1:]
    errors = np.sqrt(np.diag(centring @ theirs.cov_params() @ centring.T))
    np.testing.assert_allclose(fitted.error, errors, rtol=0.01)


def test_abilities_with_ties_maximise_davidsons_likelihood() -> None:
    votes, cast, _ = votes_and_cast(ties=0.15)
    fitted = bradley_terry.fit(votes, cast, 4, prior=0.0)
    wins = np.array([[(votes[p] == outcome).sum() for outcome in (1, 0, -1)] for p in range(6)])

    def minus_log_likelihood(free: np.ndarray) -> float:
        strength, log_nu = np.exp(np.append(free[:3], -free[:3].sum())), free[3]
        total = 0.0
        for (a, b), counts in zip(PAIRS, wins, strict=True):
            parts = np.array([strength[a], np.exp(log_nu) * np.sqrt(strength[a] * strength[b]), strength[b]])
            total -= float(counts @ np.log(parts / parts.sum()))
        return total

    best = minimize(minus_log_likelihood, np.zeros(4), method="BFGS", options={"gtol": 1e-6})
    np.testing.assert_allclose(fitted.ability[:3], best.x[:3], atol=1e-4)
    assert fitted.ties == pytest.approx(np.exp(best.x[3]), rel=1e-4)


def test_a_policy_that_never_lost_has_an_ability() -> None:
    votes = np.ones((3, 20, 5), dtype=np.int8)
    fitted = bradley_terry.fit(votes, np.ones_like(votes, dtype=bool), 3)
    assert np.isfinite(fitted.ability).all()
    assert np.isfinite(fitted.error).all()
    assert list(np.argsort(-fitted.ability)) == [0, 1, 2]


def test_sandwich_is_the_spread_over_new_questions_and_new_personas() -> None:
    """The design is drawn afresh many times; the model's own error, without clusters, is far too small."""
    rng = np.random.default_rng(5)
    truth = np.array([0.4, 0.0, -0.4])
    abilities, errors = [], []
    for _ in range(150):
        gap = np.array([truth[a] - truth[b] for a, b in combinations(range(3), 2)])[:, None, None]
        gap = gap + rng.normal(0, 0.7, (3, 40, 1)) + rng.normal(0, 0.5, (3, 1, 15))
        votes = np.where(rng.random((3, 40, 15)) < 1 / (1 + np.exp(-gap)), 1, -1).astype(np.int8)
        fitted = bradley_terry.fit(votes, np.ones_like(votes, dtype=bool), 3)
        abilities.append(fitted.ability)
        errors.append(fitted.error)
    spread = np.std(abilities, axis=0)
    np.testing.assert_allclose(np.mean(errors, axis=0), spread, rtol=0.2)
    without_clusters = np.sqrt(4 * (2 / 9) / 600)
    assert (without_clusters < 0.6 * spread).all()


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(2, 9), st.integers(0, 1000))
def test_components_of_a_full_table_are_those_of_the_analysis_of_variance(q: int, p: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (q, 1)) + rng.normal(0, 0.5, (1, p)) + rng.normal(0, 1, (q, p))
    found = components(x, np.ones_like(x, dtype=bool))
    rows, columns, whole = x.mean(axis=1), x.mean(axis=0), x.mean()
    ms_question = p * ((rows - whole) ** 2).sum() / (q - 1)
    ms_persona = q * ((columns - whole) ** 2).sum() / (p - 1)
    ms_error = ((x - rows[:, None] - columns[None] + whole) ** 2).sum() / ((q - 1) * (p - 1))
    assert found.residual == pytest.approx(ms_error, rel=1e-6)
    assert found.question == pytest.approx(max((ms_question - ms_error) / p, 0), rel=1e-6, abs=1e-9)
    assert found.persona == pytest.approx(max((ms_persona - ms_error) / q, 0), rel=1e-6, abs=1e-9)


def test_components_find_the_truth_when_votes_are_missing() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(60):
        x = 0.2 + rng.normal(0, 0.6, (80, 1)) + rng.normal(0, 0.4, (1, 25)) + rng.normal(0, 1.0, (80, 25))
        one = components(x, rng.random(x.shape) < 0.6)
        found.append((one.question, one.persona, one.residual, one.icc, one.error))
    question, persona, residual, icc, error = np.mean(found, axis=0)
    assert question == pytest.approx(0.36, rel=0.05)
    assert persona == pytest.approx(0.16, rel=0.1)
    assert residual == pytest.approx(1.0, rel=0.02)
    assert icc == pytest.approx(0.36 / 1.52, rel=0.05)
    assert error == pytest.approx(np.sqrt(0.36 / 80 + 0.16 / 25 + 1 / 1200), rel=0.08)


def test_independent_votes_are_worth_themselves_and_copies_one() -> None:
    rng = np.random.default_rng(1)
    votes = rng.choice([-1.0, 1.0], size=(400, 10))
    everyone = np.ones_like(votes, dtype=bool)
    assert components(votes, everyone).effective > 2500
    copies = components(np.repeat(votes[:, :1], 10, axis=1), everyone)
    assert copies.icc == pytest.approx(1.0)
    assert copies.effective == pytest.approx(400, rel=0.02)


def test_a_group_for_whom_the_favourite_fails_is_seen() -> None:
    personas = [f"p{k}" for k in range(30)]
    few = personas[:5]
    taste = {one: {"DPO_Empathy": -3.0, "MODPO_Empathy": 1.0} for one in few}
    questions = [f"q{k}" for k in range(40)]
    table = judged(STRENGTH, "phase1", POLICIES, ("empathy",), questions, personas, persona_taste=taste)
    ballots = collect(table, "phase1", POLICIES, ("empathy",), questions, personas)
    shares = groups.persona_shares(ballots.votes[0], ballots.cast[0], 4, half_ties=False)
    favourite, other = POLICIES.index("DPO_Empathy"), POLICIES.index("MODPO_Empathy")
    assert shares.rate[favourite].mean() > shares.rate[other].mean()
    demographics = {one: {"gender": "few" if one in few else "many"} for one in personas}
    members = groups.memberships(personas, demographics)
    assert list(members) == ["gender"]
    errors = groups.group_errors(shares, list(members["gender"].values()), 2000, np.random.default_rng(0))
    rates = np.array([shares.rate[:, one].mean(axis=1) for one in members["gender"].values()])
    lead, spread = rates[:, other] - rates[:, favourite], (errors[..., other] - errors[..., favourite]).std(axis=0)
    assert lead[0] > 3 * spread[0]
    assert lead[1] < -3 * spread[1]
    assert spread[0] > spread[1]


def test_persona_rates_are_shares_of_votes() -> None:
    votes, cast, _ = votes_and_cast(questions=15, personas=6, ties=0.2, unparsed=0.1)
    shares = groups.persona_shares(votes, cast, 4, half_ties=True)
    for who in range(6):
        for policy in range(4):
            won = asked = 0.0
            for pair, (a, b) in enumerate(PAIRS):
                if policy in (a, b):
                    mine = votes[pair, :, who][cast[pair, :, who]] * (1 if policy == a else -1)
                    won += (mine == 1).sum() + 0.5 * (mine == 0).sum()
                    asked += mine.size
            assert shares.rate[policy, who] == pytest.approx(won / asked)
    assert (shares.error > 0).all()
    np.testing.assert_allclose(shares.by_question.mean(axis=1), shares.rate, atol=1e-6)


def test_length_control_is_statsmodels_logit_and_finds_the_planted_preference_for_length() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.poisson(80, 600) + 30, rng.poisson(80, 600)
    regressor = np.tanh((a - b) / (a - b).std())
    won = (rng.random(600) < 1 / (1 + np.exp(-(-0.4 + 1.5 * regressor)))).astype(float)
    found = length_controlled(won, a, b)
    theirs = sm.Logit(won, sm.add_constant(pd.Series(regressor, name="length"))).fit(disp=0, cov_type="HC0")
    assert found.slope == pytest.approx(theirs.params["length"], rel=0.02)
    expected = 1 / (1 + np.exp(-theirs.params["const"]))
    assert found.rate == pytest.approx(expected, abs=0.01)
    low, high = 1 / (1 + np.exp(-theirs.conf_int().loc["const"]))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    assert won.mean() > 0.5 > found.rate
    swapped = length_controlled(1 - won, b, a)
    assert swapped.rate == pytest.approx(1 - found.rate, abs=1e-6)
    assert swapped.slope == pytest.approx(found.slope, abs=1e-6)


def test_length_control_stays_finite_at_a_clean_sweep_and_equal_lengths() -> None:
    sweep = length_controlled(np.ones(50), np.full(50, 40.0), np.full(50, 30.0))
    assert 0.9 < sweep.low <= sweep.rate <= sweep.high <= 1
    assert sweep.slope == 0


def test_planted_position_bias_is_found_and_no_bias_is_not() -> None:
    rng = np.random.default_rng(0)
    votes, cast, first = votes_and_cast(questions=200, personas=20, first_shown_gains=0.6)
    biased = position_bias(votes[0], cast[0], first[0], rng)
    assert biased.low > 0.52
    assert biased.rate_a_first > biased.rate_a_second
    assert biased.flips > biased.flips_by_chance
    votes, cast, first = votes_and_cast(questions=200, personas=20)
    fair = position_bias(votes[0], cast[0], first[0], rng)
    assert fair.low < 0.5 < fair.high
    assert fair.flips == pytest.approx(fair.flips_by_chance, abs=0.05)


def test_both_orders_weigh_the_same_however_often_they_were_shown() -> None:
    votes = np.array([[1, 1, 1, 1, -1]], dtype=np.int8)
    first = np.array([[1, 1, 1, 1, -1]], dtype=np.int8)
    found = position_bias(votes, np.ones_like(votes, dtype=bool), first, np.random.default_rng(0))
    assert found.first_share == 1.0
    assert list(found.outcomes) == [0]
    mirrored = position_bias(-votes, np.ones_like(votes, dtype=bool), -first, np.random.default_rng(0))
    assert mirrored.first_share == 1.0
    assert list(mirrored.outcomes) == [0]
