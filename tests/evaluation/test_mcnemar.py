"""McNemar's test against statsmodels and scipy, the paper's own numbers, and what must hold for any counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.mcnemar import (
    METHODS,
    adjusted,
    mcnemar,
    odds_ratio,
    smallest_detectable_difference,
)

counts = st.integers(0, 2000)


@pytest.mark.parametrize(("b", "c", "published"), [(315, 285, 0.221), (310, 288, 0.368), (307, 292, 0.540)])
def test_gives_the_p_values_of_the_paper(b: int, c: int, published: float) -> None:
    assert round(mcnemar(b, c).pvalue, 3) == published


@settings(max_examples=200)
@given(counts, counts)
def test_agrees_with_statsmodels(b: int, c: int) -> None:
    if b + c == 0:
        return
    table = [[7, b], [c, 11]]
    for method, options in {
        "chi2": {"exact": False, "correction": False},
        "chi2_corrected": {"exact": False, "correction": True},
        "exact": {"exact": True},
    }.items():
        ours, theirs = mcnemar(b, c, method), statsmodels_mcnemar(table, **options)  # type: ignore[arg-type]
        assert ours.statistic == pytest.approx(theirs.statistic)
        assert ours.pvalue == pytest.approx(theirs.pvalue, abs=1e-12)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mid_p_is_the_exact_p_less_half_of_each_observed_tail(b: int, c: int) -> None:
    if b + c == 0:
        return
    outcomes = np.arange(b + c + 1)
    chance = stats.binom.pmf(outcomes, b + c, 0.5)
    distance = np.abs(outcomes - (b + c) / 2)
    mine = abs(b - (b + c) / 2)
    by_definition = chance[distance > mine].sum() + 0.5 * chance[distance == mine].sum()
    expected = 1.0 if b == c else by_definition
    assert mcnemar(b, c, "midp").pvalue == pytest.approx(expected, abs=1e-12)


@given(counts, counts, st.sampled_from(METHODS))
@example(1, 1074, "midp")
def test_is_symmetric_and_a_probability(b: int, c: int, method: str) -> None:
    one, other = mcnemar(b, c, method), mcnemar(c, b, method)  # type: ignore[arg-type]
    assert one == other
    assert 0 <= one.pvalue <= 1


@given(counts, counts, st.integers(1, 200))
def test_chi2_sees_more_where_the_same_shares_rest_on_more_questions(b: int, c: int, times: int) -> None:
    assert mcnemar(b * times, c * times).statistic == pytest.approx(times * mcnemar(b, c).statistic)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_ties_is_no_evidence(method: str) -> None:
    result = mcnemar(0, 0, method)  # type: ignore[arg-type]
    assert result.pvalue == 1.0
    assert result.reason is not None
    assert mcnemar(1, 0).reason is None


@pytest.mark.parametrize(
    ("b", "c", "method"), [(-1, 3, "chi2"), (2.5, 3, "chi2"), (True, 3, "chi2"), (math.nan, 3, "chi2"), (1, 2, "yates")]
)
def test_refuses_what_is_no_count_and_methods_it_does_not_know(b: float, c: int, method: str) -> None:
    with pytest.raises(InputError):
        mcnemar(b, c, method)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrections_agree_with_statsmodels(pvalues: list[float]) -> None:
    for ours, theirs in (("holm", "holm"), ("bh", "fdr_bh")):
        expected = multipletests(pvalues, method=theirs)[1]
        np.testing.assert_allclose(adjusted(pvalues, ours), expected, atol=1e-12)  # type: ignore[arg-type]
    np.testing.assert_array_equal(adjusted(pvalues, "none"), pvalues)


@given(st.integers(0, 400), st.integers(1, 400))
def test_odds_ratio_interval_says_what_the_exact_test_says(b: int, c: int) -> None:
    ratio, low, high = odds_ratio(b, c)
    assert low <= ratio <= high
    # Clopper-Pearson inverts two one-sided tests of size 2.5%, which is the doubled binomial test
    assert (low <= 1 <= high) == (mcnemar(b, c, "exact").pvalue >= 0.05)


def test_smallest_detectable_difference_has_the_power_it_promises() -> None:
    questions, ties = 600, 60
    difference = smallest_detectable_difference(questions, ties, alpha=0.05, power=0.8)
    decisive = questions - ties
    wins = np.arange(decisive + 1)
    statistic = (2 * wins - decisive) ** 2 / decisive
    share = (1 + difference * questions / decisive) / 2
    power = stats.binom.pmf(wins, decisive, share)[stats.chi2.sf(statistic, 1) < 0.05].sum()
    assert power == pytest.approx(0.8, abs=0.02)
    assert smallest_detectable_difference(6000, 600) < difference
    assert math.isnan(smallest_detectable_difference(3))
    assert math.isnan(smallest_detectable_difference(10, 10))
