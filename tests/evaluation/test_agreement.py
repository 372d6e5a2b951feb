"""Agreement coefficients against statsmodels, scikit-learn and the published tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.agreement import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha

# Fleiss (1971), table 1: 30 patients, 6 of the psychiatrists each, 5 diagnoses; the paper gives kappa = .430
FLEISS_1971 = [
    [0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0], [2, 0, 4, 0, 0],
    [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6], [1, 0, 0, 5, 0], [1, 1, 0, 4, 0],
    [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1], [0, 0, 5, 0, 1], [3, 0, 0, 1, 2], [5, 1, 0, 0, 0],
    [0, 2, 0, 4, 0], [1, 0, 2, 0, 3], [0, 0, 0, 0, 6], [0, 1, 0, 5, 0], [0, 2, 0, 1, 3], [2, 0, 0, 4, 0],
    [1, 0, 0, 4, 1], [0, 5, 0, 1, 0], [4, 0, 0, 0, 2], [0, 2, 0, 4, 0], [1, 0, 5, 0, 0], [0, 0, 0, 0, 6],
]  # fmt: skip

# Gwet's example of twelve units and four raters with missing ratings (also Krippendorff's reliability data):
# AC1 = 0.77544 and alpha = 0.74342, as published in the Handbook of Inter-Rater Reliability
NAN = math.nan
FOUR_RATERS: list[list[float]] = [
    [1, 1, NAN, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [NAN, 5, 5, 5], [NAN, NAN, 1, 1], [NAN, NAN, 3, NAN],
]  # fmt: skip

labels = st.sampled_from("abcd")
complete = st.integers(2, 5).flatmap(
    lambda raters: st.lists(st.lists(labels, min_size=raters, max_size=raters), min_size=2, max_size=25)
)
with_gaps = st.integers(2, 5).flatmap(
    lambda raters: st.lists(
        st.lists(st.one_of(st.none(), labels), min_size=raters, max_size=raters), min_size=2, max_size=25
    ).filter(lambda rows: any(sum(one is not None for one in row) >= 2 for row in rows))
)


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, abs_tol=1e-9)


def test_fleiss_gives_the_published_kappa() -> None:
    assert round(fleiss_kappa(FLEISS_1971), 3) == 0.430


def test_gwets_four_raters_give_the_published_coefficients() -> None:
    assert round(gwet_ac1(FOUR_RATERS), 5) == 0.77544
    assert round(krippendorff_alpha(FOUR_RATERS), 5) == 0.74342
    as_none: list[list[float | None]] = [[None if math.isnan(one) else one for one in row] for row in FOUR_RATERS]
    assert gwet_ac1(as_none) == gwet_ac1(np.array(FOUR_RATERS))


@given(complete)
def test_fleiss_agrees_with_statsmodels(ratings: list[list[str]]) -> None:
    table, _ = aggregate_raters(np.array([["abcd".index(one) for one in row] for row in ratings]))
    with np.errstate(invalid="ignore", divide="ignore"):
        theirs = float(statsmodels_fleiss(table))
    assert same(fleiss_kappa(table), theirs)


@pytest.mark.filterwarnings("ignore")
@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=60))
def test_cohen_agrees_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    a, b = [one for one, _ in pairs], [other for _, other in pairs]
    theirs = 0.0 if len({*a, *b}) == 1 else float(cohen_kappa_score(a, b))
    assert same(cohen_kappa(a, b), math.nan if len({*a, *b}) == 1 else theirs)
    assert same(cohen_kappa(a, b), cohen_kappa(b, a))


@settings(deadline=None)
@given(with_gaps, st.randoms(use_true_random=False))
def test_neither_order_nor_names_matter(ratings: list[list[str | None]], random: Any) -> None:
    rows, raters = list(ratings), list(range(len(ratings[0])))
    random.shuffle(rows)
    random.shuffle(raters)
    names = dict(zip("abcd", random.sample(["x", "y", "z", 7], 4), strict=True))
    moved = [[None if row[one] is None else names[str(row[one])] for one in raters] for row in rows]
    for coefficient in (gwet_ac1, krippendorff_alpha):
        assert same(coefficient(ratings), coefficient(moved))


@given(with_gaps, st.integers(2, 4))
def test_ac1_does_not_change_when_every_item_comes_again(ratings: list[list[str | None]], times: int) -> None:
    assert same(gwet_ac1(ratings), gwet_ac1(ratings * times))


def test_alpha_approaches_fleiss_as_items_grow() -> None:
    ratings = [[c for c, count in enumerate(row) for _ in range(count)] for row in FLEISS_1971] * 400
    assert krippendorff_alpha(ratings) == pytest.approx(fleiss_kappa(FLEISS_1971), abs=1e-4)


def test_full_agreement_is_one_and_a_single_label_is_not_defined_except_for_ac1() -> None:
    full = [["a"] * 3, ["b"] * 3, ["a"] * 3]
    assert gwet_ac1(full) == krippendorff_alpha(full) == cohen_kappa(["a", "b"], ["a", "b"]) == 1.0
    single = [["a", "a"], ["a", "a"]]
    assert gwet_ac1(single) == 1.0
    assert math.isnan(krippendorff_alpha(single))
    assert math.isnan(fleiss_kappa([[3, 0], [3, 0]]))


def test_a_label_that_could_have_been_given_counts_for_ac1() -> None:
    ratings = [["a", "a"], ["b", "b"], ["a", "b"]]
    assert gwet_ac1(ratings, categories=4) > gwet_ac1(ratings)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fleiss_kappa([[1, 2], [2, 2]]),
        lambda: fleiss_kappa([[1, 0]]),
        lambda: fleiss_kappa([[-1, 3]]),
        lambda: cohen_kappa(["a"], ["a", "b"]),
        lambda: cohen_kappa([], []),
        lambda: cohen_kappa(["a", None], ["a", "b"]),
        lambda: gwet_ac1([["a", None], [None, "b"]]),
        lambda: krippendorff_alpha([["a"], ["a", "b"]]),
    ],
)
def test_refuses_ratings_that_say_nothing(call: Any) -> None:
    with pytest.raises(InputError):
        call()
