"""Tango's interval against published values and a constrained likelihood; sample sizes against simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.non_inferiority import (
    non_inferiority,
    non_inferiority_rows,
    power_of,
    questions_needed,
    tango_interval,
    tango_statistic,
)
from modpo_hpc.report import findings
from modpo_hpc.report.results import Results
from modpo_hpc.study.evaluation import Statistics
from tests.synthetic_verdicts import small_study


@pytest.mark.parametrize(
    ("b", "c", "n", "low", "high"),
    [
        (1, 7, 21, -0.517, -0.026),  # Bentur et al. 2009, in Fagerland, Lydersen and Laake 2014, table VI
        (6, 16, 161, -0.124, -0.005),  # Cavo et al. 2012, the same
        (40, 20, 160, 0.0309, 0.2181),  # the example of R's PropCIs::scoreci.mp
    ],
)
def test_published_intervals(b: int, c: int, n: int, low: float, high: float) -> None:
    digits = 3 if n < 100 or b == 6 else 4
    assert tuple(round(one, digits) for one in tango_interval(b, c, n)) == (low, high)


@pytest.mark.parametrize(("b", "c", "n"), [(12, 30, 80), (5, 0, 20), (0, 9, 30), (150, 140, 300)])
@pytest.mark.parametrize("difference", [-0.3, -0.05, 0.0, 0.08, 0.4])
def test_the_statistic_is_the_score_at_the_constrained_maximum(b: int, c: int, n: int, difference: float) -> None:
    """The likelihood of (b, c, n - b - c) maximized numerically on the line p_b - p_c = difference."""

    def loss(p_c: float) -> float:
        shares = np.clip([p_c + difference, p_c, 1 - 2 * p_c - difference], 1e-300, None)
        return -float(np.array([b, c, n - b - c]) @ np.log(shares))

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    p_c = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    variance = (2 * p_c + difference - difference**2) / n
    assert tango_statistic(b, c, n, difference) == pytest.approx(((b - c) / n - difference) / math.sqrt(variance), 1e-3)


def test_interval_and_test_agree_and_empty_counts_are_no_crash() -> None:
    found = non_inferiority(90, 100, 300, 0.1)
    assert (found.p < 0.025) == (found.low > -0.1)
    assert found.p_equivalence == pytest.approx(max(found.p, norm.cdf(tango_statistic(90, 100, 300, 0.1))))
    assert tango_interval(0, 0, 10)[0] == pytest.approx(-(1.959964**2) / (10 + 1.959964**2), abs=1e-5)
    assert tango_interval(10, 0, 10)[1] == 1
    assert tango_interval(0, 10, 10)[0] == -1
    for counts in ((-1, 2, 5), (4, 4, 5), (0, 0, 0)):
        with pytest.raises(InputError, match="no counts of paired outcomes"):
            tango_interval(*counts)


@pytest.mark.parametrize(("margin", "decided", "difference"), [(0.1, 0.9, 0.0), (0.05, 0.3, 0.0), (0.1, 0.8, 0.03)])
def test_sample_sizes_have_their_power_in_simulation(margin: float, decided: float, difference: float) -> None:
    questions = questions_needed(margin, decided, difference, 0.025, 0.8)
    assert power_of(questions, margin, decided, difference) == pytest.approx(0.8, abs=0.002)
    shares = [(decided + difference) / 2, (decided - difference) / 2, 1 - decided]
    drawn = np.random.default_rng(1).multinomial(questions, shares, size=4000)
    shown = np.mean([tango_statistic(b, c, questions, -margin) > norm.ppf(0.975) for b, c, _ in drawn.tolist()])
    # three standard errors of 4,000 draws, and the approximation
    assert shown == pytest.approx(0.8, abs=0.025)


@pytest.mark.parametrize(("questions", "decided"), [(60, 0.9), (200, 0.3)])
def test_a_policy_at_the_margin_passes_at_the_level_only(questions: int, decided: float) -> None:
    margin = 0.1
    shares = [(decided - margin) / 2, (decided + margin) / 2, 1 - decided]
    drawn = np.random.default_rng(2).multinomial(questions, shares, size=6000)
    passed = np.mean([non_inferiority(b, c, questions, margin).p < 0.025 for b, c, _ in drawn.tolist()])
    assert passed < 0.033


def row(policy: str, won: int, lost: int, low: float, high: float) -> dict[str, Any]:
    """A row of win rates in which the reference stands first, as in a study's order of policies."""
    return {
        "phase": "phase1",
        "criterion": "safety",
        "policy_a": "Base",
        "policy_b": policy,
        "wins_a": lost,
        "wins_b": won,
        "questions": 600,
        "difference_low": -high,
        "difference_high": -low,
    }


def test_both_intervals_must_lie_above_the_margin() -> None:
    settings = Statistics(non_inferiority={"safety": 0.12})
    rates = [
        row("Better", 400, 180, 0.2, 0.5),
        row("Same", 295, 290, -0.06, 0.08),
        row("SameButPersonasDiffer", 295, 290, -0.15, 0.16),
        row("Worse", 200, 380, -0.4, -0.2),
        {**row("Better", 100, 480, -0.8, -0.5), "criterion": "empathy"},
        {**row("Same", 1, 1, 0, 0), "policy_a": "Better"},
    ]
    rows = {one["policy"]: one for one in non_inferiority_rows(rates, "Base", settings)}
    assert {name: (one["non_inferior"], one["equivalent"]) for name, one in rows.items()} == {
        "Better": (True, False),
        "Same": (True, True),
        "SameButPersonasDiffer": (False, False),
        "Worse": (False, False),
    }
    assert (rows["Better"]["won"], rows["Better"]["model_low"]) == (400, 0.2)
    assert rows["Same"]["p_adjusted"] >= rows["Same"]["p"]

    summary = {"settings": settings.model_dump(mode="json")}
    said = " ".join(findings.maintained(Results(None, summary, {"non_inferiority": list(rows.values())}, 20), "phase1"))  # type: ignore[arg-type]
    assert "Safety is maintained within 12 points of Base by Better, Same." in said
    assert "is not shown for SameButPersonasDiffer, Worse" in said
    assert findings.maintained(Results(None, {"settings": {"non_inferiority": {}}}, {}, 20), "phase1") == []  # type: ignore[arg-type]


def test_a_margin_belongs_to_a_criterion_that_is_judged() -> None:
    for wrong, said in (
        ({"non_inferiority": {"warmth": 0.1}}, "no phase judges"),
        ({"non_inferiority": {"safety": 1.5}}, "less than 1"),
        ({"reference": "Nobody"}, "'Nobody', which no phase judges"),
    ):
        with pytest.raises(ValidationError, match=said):
            small_study(statistics=wrong)
    assert small_study(statistics={"reference": "MODPO_Survey"}).reference("phase2") == "MODPO_Survey"
    assert small_study(statistics={"reference": "MODPO_Survey"}).reference("phase1") == "Base"
