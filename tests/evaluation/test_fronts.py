"""Fronts of families: each measure against another way to work it out, then the stage and what it shows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import kendalltau

from modpo_hpc.evaluation import fronts, pareto
from modpo_hpc.evaluation.fronts import Family
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.report.fronts import fronts_section, read_fronts
from modpo_hpc.rewards.records import ANSWER_SCORES
from modpo_hpc.run import Run
from modpo_hpc.study import Study
from tests.every_number import assert_traced
from tests.synthetic_verdicts import fill, small_run, small_study


def by_inclusion_and_exclusion(points: np.ndarray, corner: np.ndarray) -> float:
    """The volume of a union of boxes, another way: with signs, over every set of them."""
    boxes = np.maximum(points - corner, 0.0)
    sets = (some for size in range(1, len(boxes) + 1) for some in combinations(range(len(boxes)), size))
    return float(sum((-1) ** (len(some) + 1) * boxes[list(some)].min(axis=0).prod() for some in sets))


@pytest.mark.parametrize("criteria", [2, 3, 4, 6])
def test_hypervolume_and_contributions_by_inclusion_and_exclusion(criteria: int) -> None:
    rng = np.random.default_rng(criteria)
    for _ in range(5):
        points, corner = rng.normal(size=(6, criteria)), rng.normal(-0.5, 0.3, criteria)
        whole = by_inclusion_and_exclusion(points, corner)
        assert pareto.hypervolume(points, corner) == pytest.approx(whole, abs=1e-12)
        without = [by_inclusion_and_exclusion(np.delete(points, one, axis=0), corner) for one in range(6)]
        assert pareto.contributions(points, corner) == pytest.approx(whole - np.array(without), abs=1e-12)


def test_a_staircase_has_the_volume_and_the_sparsity_that_can_be_worked_out_by_hand() -> None:
    points = np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [0.5, 0.5]])
    assert pareto.hypervolume(points, np.zeros(2)) == 6
    assert pareto.contributions(points, np.zeros(2)).tolist() == [1, 1, 1, 0]
    assert fronts.sparsity(points) == 2, "steps of 1 in both criteria; the fourth point is not on the front"
    assert np.isnan(fronts.sparsity(points[1:2]))


def test_tau_is_that_of_scipy_ties_included() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, others = rng.integers(0, 6, 9).astype(float), rng.integers(0, 6, (4, 9)).astype(float)
        wanted = [np.nan_to_num(kendalltau(one, other).statistic) for other in others]
        assert fronts.kendall_tau(one, others) == pytest.approx(np.array(wanted))


def plane(means: dict[str, tuple[float, float]], noise: float = 0.3, questions: int = 200) -> fronts.MeanRewards:
    rng = np.random.default_rng(3)
    values = {
        (policy, criterion): {f"q{k}": mean + noise * float(rng.normal()) for k in range(questions)}
        for policy, both in means.items()
        for criterion, mean in zip(("empathy", "safety"), both, strict=True)
    }
    return fronts.rewards_of(values, [f"q{k}" for k in range(questions)], 1000, np.random.default_rng(4))


def test_intervals_over_questions_are_those_of_the_standard_error() -> None:
    rewards = plane({"A": (1.0, 0.0), "B": (0.0, 1.0)}, noise=1.0, questions=400)
    low, high = np.quantile(rewards.drawn[:, 0, 0], [0.025, 0.975])
    assert (high - low) / 2 == pytest.approx(1.96 / 20, rel=0.15)
    assert low < rewards.mean[0, 0] < high


def test_a_collapsed_family_is_in_perfect_order_and_is_told_by_its_range() -> None:
    """Why tau never stands alone."""
    weights = np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])
    means = {"A": (1.02, 0.98), "B": (1.0, 1.0), "C": (0.98, 1.02), "E": (2.0, 0.0), "S": (0.0, 2.0)}
    rewards = plane(means, noise=0.0)
    family = Family("F", ("A", "B", "C"), ("empathy", "safety"), weights)
    rows = fronts.range_rows(family, rewards, {"empathy": "E", "safety": "S"}, 0.95)
    assert [row["tau"] for row in rows] == [1, 1]
    assert [row["share"] for row in rows] == pytest.approx([0.02, 0.02])
    assert np.isnan(fronts.range_rows(family, rewards, {"empathy": "E"}, 0.95)[0]["share"])


def with_families() -> Study:
    policies = {
        "Base": {"method": "base"},
        "DPO_Empathy": {"method": "dpo", "criteria": {"empathy": 1}},
        "DPO_Safety": {"method": "dpo", "criteria": {"safety": 1}},
    }
    sweep = [
        {"name": "Soup", "method": "soup", "sources": ["DPO_Empathy", "DPO_Safety"], "weights": 3},
        {"name": "MODPO", "method": "modpo", "criteria": ["empathy", "safety"], "weights": 3},
    ]
    phase = {"policies": ["Base", "DPO_Empathy"], "criteria": ["safety"]}
    return small_study(
        alignment={"policies": policies, "sweep": sweep},
        judging={"personas_per_question": 20, "phases": {"phase1": phase}},
        rewards={"scale": "raw"},
    )


def test_weights_asked_of_a_soup_are_those_of_the_criteria_behind_its_sources() -> None:
    soup, modpo = fronts.families_of(with_families())
    assert soup.criteria == modpo.criteria == ("empathy", "safety")
    assert soup.weights == pytest.approx(modpo.weights)
    assert modpo.weights.tolist() == [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]]
    assert fronts.specialists_of(with_families(), soup.criteria) == {"empathy": "DPO_Empathy", "safety": "DPO_Safety"}


REWARD = {"Base": (0.0, 0.0), "DPO_Empathy": (2.0, -0.2), "DPO_Safety": (0.1, 1.8)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A judged run whose families lie on straight lines between the specialists, MODPO's further out."""
    run = small_run(tmp_path_factory.mktemp("fronts") / "run", with_families(), questions=30)
    rng = np.random.default_rng(5)
    further = {"Soup": 1.0, "MODPO": 1.2}
    tables = {}
    for shard in run.shard_ids("answer_scores"):
        policy = shard.rpartition(".")[0]
        means = REWARD.get(policy)
        if means is None:
            family, share, _ = policy.split("_")
            ends = np.array([REWARD["DPO_Empathy"], REWARD["DPO_Safety"]])
            means = tuple(further[family] * (np.array([int(share), 100 - int(share)]) / 100 @ ends))
        rows: list[dict[str, Any]] = [
            {"policy": policy, "question_id": f"q{k:03d}", "criterion": criterion, "reward": value, "reward_raw": value}
            for k in range(30)
            for criterion, mean in zip(("empathy", "safety"), means, strict=True)
            for value in [float(mean + 0.1 * rng.normal())]
        ]
        tables[shard] = (pa.Table.from_pylist(rows, schema=ANSWER_SCORES), ANSWER_SCORES)
    fill(run, "answer_scores", tables)
    run_shard(str(run.root), "fronts", "all")
    run_shard(str(run.root), "statistics", "all")
    return run


def test_the_tables_say_what_the_rewards_were_made_as(finished: Run) -> None:
    tables = read_fronts(finished)
    soup, modpo = tables["families"]
    assert (soup["policies"], modpo["beside"]) == (3, "Soup")
    assert modpo["ratio_low"] < modpo["ratio"] < modpo["ratio_high"]
    assert modpo["ratio"] == pytest.approx(1.2**2, rel=0.1)
    assert soup["reference"] == pytest.approx([0, 0], abs=0.05), "of the base policy"
    assert [row["tau"] for row in tables["ranges"]] == [1] * 4
    for row in tables["ranges"]:
        assert row["share"] == pytest.approx(0.5 if row["family"] == "Soup" else 0.6, abs=0.06)
    assert sum(row["contribution"] for row in tables["fronts"] if row["family"] == "Soup") / 2 < soup["hypervolume"]


def test_a_stated_reference_point_is_taken() -> None:
    study = with_families()
    alignment = study.alignment.model_copy(update={"reference_point": {"safety": -1}})
    stated = study.model_copy(update={"alignment": alignment})
    rewards = plane({"Base": (0.5, 0.6)}, noise=0.0)
    assert fronts.reference_of(stated, rewards, ("empathy", "safety")).tolist() == pytest.approx([0.5, -1])


def test_results_and_report_show_the_families(finished: Run, modpo: Callable[..., Any], tmp_path: Path) -> None:
    shown = " ".join(modpo("results", str(finished.root)).stdout.split())
    assert "Fronts of the families" in shown
    assert "of its specialists' range, tau 1.00" in shown
    section = fronts_section(finished)
    assert section is not None
    assert {table.file for table in section.tables} == {"fronts_families", "fronts_ranges", "fronts_policies"}
    for picture in section.figures:
        assert picture.draw().get_axes()[0].get_legend_handles_labels()[1] == ["Soup", "MODPO"]


def test_a_study_without_families_has_no_fronts(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", small_study())
    assert run.shard_ids("fronts") == ()
    assert fronts_section(run) is None


def test_the_lines_of_every_number_give_the_number(finished: Run) -> None:
    assert_traced(finished, "fronts", "fronts_families", "fronts_policies")
