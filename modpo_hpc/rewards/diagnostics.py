"""What a reviewer asks of reward models: do they read more than length, would more data help, how was the search."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure

from modpo_hpc.rewards.accuracy import pair_quality, wilson_interval
from modpo_hpc.rewards.calibration import out_of_fold
from modpo_hpc.rewards.tuning import space_of
from modpo_hpc.search import Trial, as_optuna
from modpo_hpc.study.rewards import RewardSearch


def length_shortcut(predictions: pd.DataFrame, length_of: Mapping[str, int], parts: int = 3) -> pd.DataFrame:
    """The model beside a judge that sees length alone, on unseen pairs, by how much the responses differ in length.

    The length-only judge prefers the longer response, or the shorter one if that did better in the other folds.

    Args:
        length_of: response -> length, in any unit.

    Returns:
        One row for all pairs of a criterion (part ``all``) and one a quantile of the absolute difference of lengths:
        criterion, part, difference (mean, in the unit of ``length_of``), pairs, model, length.
    """
    rows = []
    for criterion, pairs in out_of_fold(predictions).groupby("criterion", sort=False):
        longer = (pairs["chosen"].map(length_of) - pairs["rejected"].map(length_of)).to_numpy(dtype=np.float64)
        judged, fold = np.zeros(len(pairs)), pairs["fold"].to_numpy()
        for one in np.unique(fold):
            judged[fold == one] = longer[fold == one] * (1.0 if np.sign(longer[fold != one]).sum() >= 0 else -1.0)
        order = np.argsort(np.abs(longer), kind="stable")
        groups = {"all": order, **{str(at + 1): part for at, part in enumerate(np.array_split(order, parts))}}
        difference = pairs["difference"].to_numpy()
        rows += [
            {
                "criterion": criterion,
                "part": name,
                "difference": float(np.abs(longer[group]).mean()),
                "pairs": len(group),
                "model": pair_quality(difference[group]).accuracy,
                "length": pair_quality(judged[group]).accuracy,
            }
            for name, group in groups.items()
            if len(group)
        ]
    return pd.DataFrame(rows)


def learning_curve(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on the pairs of fold 0 by the share of the other folds that was learned from.

    Returns:
        criterion, share, accuracy, low, high (95% interval), pairs; the last share of a criterion is 1. Empty where
        the study trains no extra models (``rewards.learning_curve``).
    """
    rows = []
    has_curve = predictions["part"].str.startswith("curve").any()
    for (criterion, part), pairs in predictions.groupby(["criterion", "part"], sort=False):
        if not has_curve or not (part == "fold0" or str(part).startswith("curve")):
            continue
        quality = pair_quality((pairs["reward_chosen"] - pairs["reward_rejected"]).to_numpy())
        low, high = wilson_interval(quality.accuracy * quality.pairs, quality.pairs)
        share = 1.0 if part == "fold0" else float(str(part).removeprefix("curve")) / 100
        rows.append((criterion, share, quality.accuracy, low, high, quality.pairs))
    table = pd.DataFrame(rows, columns=["criterion", "share", "accuracy", "low", "high", "pairs"])
    return table.sort_values(["criterion", "share"], kind="stable").reset_index(drop=True)


def optuna_study(trials: pd.DataFrame, criterion: str, search: RewardSearch) -> optuna.Study:
    """The finished search of ``criterion`` as a study of Optuna's, for its plots, from the table ``reward_trials``."""
    space = space_of(search)
    study = optuna.create_study(direction="maximize", study_name=criterion)
    for row in trials[trials["criterion"] == criterion].sort_values("trial").to_dict("records"):
        accuracies = [float(one) for one in row["accuracies"]]
        pruned = row["state"] == "pruned"
        trial = Trial(
            number=int(row["trial"]),
            params={str(name): row[name] for name in space},
            value=accuracies[-1] if pruned else float(row["accuracy"]),
            pruned=pruned,
            curve=dict(enumerate(accuracies)),
            facts={},
        )
        study.add_trial(as_optuna(trial, space))
    return study


def history_figure(trials: pd.DataFrame, search: RewardSearch) -> Figure:
    """Optuna's plot of the held-out accuracy of each search over its trials."""
    studies = [optuna_study(trials, criterion, search) for criterion in dict.fromkeys(trials["criterion"])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = optuna.visualization.matplotlib.plot_optimization_history(studies, target_name="held-out accuracy")
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure
