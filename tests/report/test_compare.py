"""Several runs side by side: the spread between them, and judges who judged the same answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.ballots import Ballots, collect
from modpo_hpc.evaluation.reliability import reliability
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.report import comparison
from modpo_hpc.run import Run
from modpo_hpc.study.evaluation import SANDBOX_MARK
from tests.synthetic_verdicts import STRENGTH, VERDICTS, fill, judged, small_run, small_study

LEVELS = {1: 0.95, 2: 0.8, 3: 0.95}
"""Of the intervals of the run with this seed."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Three seeds of one study; the strengths of the policies differ a little from seed to seed."""
    folder = tmp_path_factory.mktemp("seeds")
    made = []
    for seed in (1, 2, 3):
        study = small_study(seed=seed, statistics={"draws": 100, "confidence": LEVELS[seed]})
        run = small_run(folder / f"seed{seed}", study, first_shown_gains=0.1 * seed)
        run_shard(str(run.root), "statistics", "all")
        made.append(run)
    return made


def test_spread_over_runs_is_that_of_pandas_and_scipy(runs: list[Run]) -> None:
    results = {name: one for name, (_, one) in comparison.read_runs([run.root for run in runs]).items()}
    long = pd.concat(pd.read_parquet(run.root / "statistics" / "ranking.parquet") for run in runs)
    expected = long.groupby(["phase", "criterion", "policy"])["win_rate"].agg(["mean", "std"])
    reach = np.repeat(stats.norm.interval([*LEVELS.values()])[1], len(expected))
    errors = ((long["high"] - long["low"]) / 2 / reach).groupby([long[one] for one in expected.index.names]).mean()
    rows = comparison.ranking_rows(results)
    assert len(rows) == len(expected)
    for row in rows:
        mean, deviation = expected.loc[(row["phase"], row["criterion"], row["policy"])]
        low, high = stats.t.interval(0.95, 2, mean, deviation / np.sqrt(3)) if deviation else (mean, mean)
        assert (row["mean"], row["sd"]) == pytest.approx((mean, deviation))
        assert (row["low"], row["high"]) == pytest.approx((low, high))
        assert row["within"] == pytest.approx(errors[(row["phase"], row["criterion"], row["policy"])])
        assert list(row["runs"]) == ["seed1", "seed2", "seed3"]
    pairs = comparison.pair_rows(results)
    assert all(row["a_significant"] + row["b_significant"] <= 3 for row in pairs)


def test_the_command_prints_tables_json_and_files(runs: list[Run], modpo: Callable[..., Any], tmp_path: Path) -> None:
    places = [run.root for run in runs]
    shown = modpo("compare", *places, "--out", tmp_path / "out")
    assert shown.returncode == 0, shown.stderr
    assert SANDBOX_MARK in shown.stdout
    assert "MODPO_Empathy" in shown.stdout
    assert SANDBOX_MARK in (tmp_path / "out" / "report.html").read_text()
    assert {"compare_ranking.csv", "compare_pairs.tex"} <= {one.name for one in (tmp_path / "out" / "tables").iterdir()}
    compared = json.loads(modpo("compare", *places, "--json").stdout)
    assert len(compared["runs"]) == 3
    # the answers of these runs are the same, so that each pair of runs is a pair of judgings
    assert len(compared["judges"]) == 3 * 4


def test_one_run_a_run_twice_and_strangers_are_refused(
    runs: list[Run], modpo: Callable[..., Any], tmp_path: Path
) -> None:
    assert modpo("compare", runs[0].root).returncode == 2
    twice = modpo("compare", runs[0].root, runs[0].root)
    assert twice.returncode == 2
    assert "named twice" in twice.stderr
    phases = {"other": {"policies": ["Base", "SFT_Empathy"], "criteria": ["empathy"]}}
    study = small_study(judging={"personas_per_question": 20, "phases": phases}, statistics={"draws": 100})
    stranger = small_run(tmp_path / "stranger", study)
    run_shard(str(stranger.root), "statistics", "all")
    with pytest.raises(InputError, match="in common"):
        comparison.ranking_rows(
            {name: one for name, (_, one) in comparison.read_runs([runs[0].root, stranger.root]).items()}
        )


def test_a_second_judge_of_the_same_answers_is_set_beside_the_first(runs: list[Run], tmp_path: Path) -> None:
    other = tmp_path / "again"
    shutil.copytree(runs[0].root, other)
    shutil.rmtree(other / "statistics")
    shutil.rmtree(other / "verdicts")
    second = Run.open(other)
    questions = [f"q{number:03d}" for number in range(40)]
    personas = [row["persona_id"] for row in second.table("personas").to_pylist() if row["split"] == "test"]
    made = {}
    for shard_id in second.shard_ids("verdicts"):
        phase, a, b, _ = shard_id.split(".")
        criteria = second.study.judging.phases[phase].criteria
        made[shard_id] = (judged(STRENGTH, phase, (a, b), criteria, questions, personas, seed=99), VERDICTS)
    fill(second, "verdicts", made)
    run_shard(str(other), "statistics", "all")
    rows = comparison.judge_rows({"one": runs[0], "two": second})
    assert [(row["phase"], row["criterion"]) for row in rows] == [
        ("phase1", "empathy"),
        ("phase1", "safety"),
        ("phase2", "overall"),
        ("phase2", "safety"),
    ]
    assert all(row["votes"] == (6 if row["phase"] == "phase1" else 3) * 40 * 20 for row in rows)
    assert all(0 < row["agreement"] < 1 for row in rows)


def test_reliability_is_scikit_learns_kappa_and_refuses_other_designs() -> None:
    design = "phase1", ("Base", "DPO_Empathy"), ("empathy",)
    personas = ["p0", "p1", "p2"]

    def judgings(questions: list[str], seed: int) -> Ballots:
        return collect(
            judged(STRENGTH, *design, questions, personas, seed=seed, unparsed=0.1), *design, questions, personas
        )

    questions = [f"q{number}" for number in range(12)]
    one, two = judgings(questions, 1), judgings(questions, 2)
    found = reliability(one, two)[0]
    both = one.cast & two.cast
    assert found.votes == both.sum()
    assert found.kappa == pytest.approx(cohen_kappa_score(one.votes[both], two.votes[both]))
    assert reliability(one, one)[0].agreement == 1
    with pytest.raises(InputError, match="questions"):
        reliability(one, judgings(questions[:9], 1))
