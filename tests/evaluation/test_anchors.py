"""A phase in which policies are judged against a few anchors: the same statistics, from the pairs that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modpo_hpc.evaluation import bradley_terry, winrates
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.report.results import read_results
from modpo_hpc.run import Run
from tests.every_number import assert_traced
from tests.synthetic_verdicts import small_run, small_study

POLICIES = ("Base", "SFT_Empathy", "DPO_Empathy", "MODPO_Empathy")
ANCHORS = ("Base", "DPO_Empathy")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    phase = {"policies": list(POLICIES), "criteria": ["empathy", "safety"], "anchors": list(ANCHORS)}
    study = small_study(judging={"personas_per_question": 20, "phases": {"phase1": phase}})
    run = small_run(tmp_path_factory.mktemp("anchors") / "run", study)
    run_shard(str(run.root), "statistics", "all")
    return run


def test_averages_are_over_the_anchors_and_agree_with_pandas_on_the_verdicts(finished: Run) -> None:
    verdicts = finished.table("verdicts").to_pandas()
    verdicts["vote"] = verdicts["winner"].astype(str).map({"A": 1, "B": -1}).fillna(0)
    keys = ["criterion", "policy_a", "policy_b", "question_id"]
    majority = np.sign(verdicts.groupby(keys, observed=True)["vote"].sum()).reset_index()
    sides = [
        majority.rename(columns={"policy_a": "policy", "policy_b": "other"}).assign(won=majority["vote"] > 0),
        majority.rename(columns={"policy_b": "policy", "policy_a": "other"}).assign(won=majority["vote"] < 0),
    ]
    won = pd.concat(sides).groupby(["criterion", "policy", "other"], observed=True)["won"].mean()
    ranking = read_results(finished).rows("ranking", phase="phase1")
    assert len(ranking) == 8
    for row in ranking:
        of = won.loc[row["criterion"], row["policy"]]
        rates = [0.5 if anchor == row["policy"] else of[anchor] for anchor in ANCHORS]
        assert row["win_rate"] == pytest.approx(np.mean(rates))
        assert row["low"] <= row["win_rate"] <= row["high"]


def test_only_pairs_with_an_anchor_are_there_in_the_results(finished: Run, modpo: Callable[..., Any]) -> None:
    rows = read_results(finished).rows("win_rates", criterion="safety")
    assert {(row["policy_a"], row["policy_b"]) for row in rows} == {
        ("Base", "SFT_Empathy"),
        ("Base", "DPO_Empathy"),
        ("Base", "MODPO_Empathy"),
        ("SFT_Empathy", "DPO_Empathy"),
        ("DPO_Empathy", "MODPO_Empathy"),
    }
    shown = " ".join(modpo("results", str(finished.root)).stdout.split())
    assert "4 policies, 5 pairs" in shown
    assert "its anchors (Base, DPO_Empathy; against itself an anchor wins half)" in shown


def test_abilities_follow_from_the_pairs_that_there_are() -> None:
    """Two policies that never met, each known from an anchor: the maximum is that of the logistic model in closed form,
    since in a star every pair has a parameter of its own."""
    rng = np.random.default_rng(0)
    votes = np.where(rng.random((2, 200, 5)) < np.array([0.7, 0.2])[:, None, None], 1, -1).astype(np.int8)
    fitted = bradley_terry.fit(votes, np.ones_like(votes, dtype=bool), 3, prior=0.0, pairs=[(0, 1), (0, 2)])
    share = (votes == 1).mean(axis=(1, 2))
    gaps = np.log(share / (1 - share))
    assert fitted.ability[0] - fitted.ability[1:] == pytest.approx(gaps, abs=1e-6)


def test_the_averages_of_every_pair_are_those_without_anchors() -> None:
    rng = np.random.default_rng(1)
    a = rng.random((3, 6))
    assert winrates.average_rates(a, 1 - a, 4, winrates.every_pair(4)) == pytest.approx(
        winrates.average_rates(a, 1 - a, 4)
    )


def test_the_lines_of_every_number_give_the_number(finished: Run) -> None:
    assert_traced(finished)
