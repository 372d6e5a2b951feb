"""Diagnostics on tables whose answers are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from modpo_hpc.rewards.diagnostics import history_figure, learning_curve, length_shortcut, optuna_study
from modpo_hpc.study.rewards import RewardSearch


def predictions(count: int = 400, accuracy: float = 0.9) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    right = rng.random(count) < accuracy
    rows = {
        "criterion": "empathy",
        "part": [f"fold{at % 2}" for at in range(count)],
        "fold": [at % 2 for at in range(count)],
        "question_id": [f"q{at}" for at in range(count)],
        "chosen": [f"q{at}.r0" for at in range(count)],
        "rejected": [f"q{at}.r1" for at in range(count)],
        "reward_chosen": np.where(right, 1.0, -1.0),
        "reward_rejected": 0.0,
    }
    return pd.DataFrame(rows)


@pytest.mark.parametrize("longer_wins", [0.7, 0.3])
def test_the_length_baseline_finds_its_direction(longer_wins: float) -> None:
    table, rng = predictions(), np.random.default_rng(1)
    longer = rng.random(400) < longer_wins
    lengths = {f"q{at}.r0": 100 + (50 if longer[at] else -50) + at % 7 for at in range(400)}
    lengths |= {f"q{at}.r1": 100 for at in range(400)}
    found = length_shortcut(table, lengths).set_index("part")
    assert found.loc["all", "length"] == pytest.approx(max(longer.mean(), 1 - longer.mean()), abs=1e-9)
    assert found.loc["all", "model"] == pytest.approx((table["reward_chosen"] > 0).mean())
    assert found.loc[["1", "2", "3"], "pairs"].sum() == 400
    assert found.loc[["1", "2", "3"], "difference"].is_monotonic_increasing


def test_equal_lengths_are_a_coin() -> None:
    lengths = dict.fromkeys([f"q{at}.r{one}" for at in range(400) for one in (0, 1)], 5)
    found = length_shortcut(predictions(), lengths)
    assert set(found["length"]) == {0.5}


def test_the_learning_curve_ends_with_fold_zero() -> None:
    whole = predictions()
    part = whole[whole["fold"] == 0].assign(part="curve25", reward_chosen=1.0)
    curve = learning_curve(pd.concat([whole, part]))
    assert curve["share"].tolist() == [0.25, 1.0]
    right = (whole[whole["fold"] == 0]["reward_chosen"] > 0).mean()
    assert curve["accuracy"].tolist() == [1.0, pytest.approx(right)]
    assert (curve["low"] < curve["accuracy"]).all()
    assert len(learning_curve(whole)) == 0


def test_the_table_of_trials_becomes_optunas_study() -> None:
    search = RewardSearch()
    rows = [
        {
            "criterion": "empathy", "trial": at, "state": "pruned" if at == 2 else "complete",
            "accuracy": 0.6 + at / 100,
            "accuracies": [0.5, 0.6 + at / 100], "learning_rate": 1e-6 * (at + 1), "weight_decay": 0.02, "dropout": 0.2,
            "batch_size": 8, "max_length": 256, "epochs": 4,
        }
        for at in range(4)
    ]  # fmt: skip
    study = optuna_study(pd.DataFrame(rows), "empathy", search)
    assert study.best_trial.number == 3
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    assert history_figure(pd.DataFrame(rows), search).axes
