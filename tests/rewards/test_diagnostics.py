"""Diagnostics on tables whose answers are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from statsmodels.stats.contingency_tables import mcnemar

from modpo_hpc.report.search_figures import BY_PARAMETER, history_figure, optuna_study, says_something_of_parameters
from modpo_hpc.report.style import render, settle
from modpo_hpc.rewards.calibration import calibration_error, error_of_the_calibrated, reliability, sigmoid
from modpo_hpc.rewards.diagnostics import (
    learning_curve,
    length_shortcut,
    losses_compared,
    margins_seen_and_unseen,
)
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


def test_margins_of_seen_pairs_stand_beside_those_of_unseen_ones() -> None:
    unseen = predictions(accuracy=0.8)
    final = unseen.assign(part="final", reward_chosen=5.0)
    found = margins_seen_and_unseen(pd.concat([unseen, final])).set_index("seen")
    assert found.loc[True, "mean"] / found.loc[False, "mean"] == pytest.approx(
        5.0 / unseen["reward_chosen"].mean(), rel=1e-9
    )
    assert found.loc[True, "right"] == 1.0
    assert found.loc[False, "right"] == pytest.approx((unseen["reward_chosen"] > 0).mean())
    # on the calibrated scale a margin is the log-odds of being right: these models are right in 80 of 100
    assert abs(unseen["reward_chosen"]).eq(1).all()
    odds = found.loc[False, "right"] / (1 - found.loc[False, "right"])
    assert found.loc[False, "mean"] == pytest.approx(np.log(odds) * (2 * found.loc[False, "right"] - 1), rel=0.02)
    assert margins_seen_and_unseen(unseen).empty


@pytest.mark.parametrize(("used", "other"), [("bradley_terry", "plackett_luce"), ("plackett_luce", "bradley_terry")])
def test_losses_are_compared_on_the_same_pairs_by_mcnemars_exact_test(used: str, other: str) -> None:
    whole = predictions()
    other_model = predictions(accuracy=0.9)[whole["fold"] == 0].sample(frac=1, random_state=2)
    other_model = other_model.assign(part=other, reward_chosen=np.where(np.arange(200) < 150, 1.0, -1.0))
    row = losses_compared(pd.concat([whole, other_model]), used).iloc[0]
    first = whole[whole["part"] == "fold0"].set_index("question_id")["reward_chosen"] > 0
    second = (other_model.set_index("question_id")["reward_chosen"] > 0)[first.index]
    assert row["pairs"] == 200
    assert (row[used], row[other]) == (first.mean(), second.mean())
    assert (row[f"only_{used}"], row[f"only_{other}"]) == ((first & ~second).sum(), (second & ~first).sum())
    expected = mcnemar(pd.crosstab(first, second).to_numpy(), exact=True).pvalue
    assert row["p"] == pytest.approx(expected)
    assert losses_compared(whole, used).empty


def test_the_error_of_a_calibrated_model_is_what_chance_makes_it() -> None:
    rng = np.random.default_rng(5)
    probabilities = sigmoid(rng.normal(1.5, 1.5, 500))
    mean, at_most = error_of_the_calibrated(probabilities)
    drawn = []
    for _ in range(300):
        won = rng.random(500) < probabilities
        drawn.append(calibration_error(reliability(np.where(won, probabilities, 1 - probabilities))))
    assert mean == pytest.approx(np.mean(drawn), rel=0.05)
    assert np.mean(np.array(drawn) <= at_most) == pytest.approx(0.95, abs=0.04)
    overconfident = sigmoid(3 * rng.normal(0, 1.5, 500))
    won = rng.random(500) < sigmoid(np.log(overconfident / (1 - overconfident)) / 3)
    wrong = calibration_error(reliability(np.where(won, overconfident, 1 - overconfident)))
    assert wrong > 2 * error_of_the_calibrated(overconfident)[1]


def table_of_trials(count: int) -> pd.DataFrame:
    rows = [
        {
            "criterion": "empathy", "trial": at, "state": "pruned" if at == 2 else "complete",
            "accuracy": 0.6 + at / 100,
            "accuracies": [0.5, 0.6 + at / 100], "learning_rate": 1e-6 * (at + 1), "weight_decay": 0.02, "dropout": 0.2,
            "batch_size": 8 if at % 2 else 16, "max_length": 256, "epochs": 4,
        }
        for at in range(count)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_table_of_trials_becomes_optunas_study() -> None:
    search, table = RewardSearch(), table_of_trials(4)
    study = optuna_study(table, "empathy", search)
    assert study.best_trial.number == 3
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    assert history_figure(table, search).axes


@pytest.mark.parametrize("name", BY_PARAMETER)
def test_figures_of_a_search_show_the_settings_that_vary_and_come_out_the_same(name: str) -> None:
    study = optuna_study(table_of_trials(9), "empathy", RewardSearch())
    assert says_something_of_parameters(study)
    drawn = []
    for _ in range(2):
        figure = BY_PARAMETER[name][1](study)
        settle(figure)
        drawn.append(render(figure, "svg"))
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.findobj(Text) if isinstance(text, Text))
    assert "learning rate" in words
    assert "batch size" in words
    assert "weight_decay" not in words, "it took one value only"
    assert drawn[0] == drawn[1]


def test_few_trials_say_nothing_of_their_settings() -> None:
    alike = table_of_trials(9).assign(accuracy=0.6)
    for table in (table_of_trials(8), alike):
        assert not says_something_of_parameters(optuna_study(table, "empathy", RewardSearch()))
