"""Section on the reward models: search, accuracy on unseen questions, calibration, overlap of the criteria."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from modpo_hpc.intervals import wilson_interval
from modpo_hpc.report import formats, reward_tables
from modpo_hpc.report.parts import ReportFigure, ReportSection, filled
from modpo_hpc.report.search_figures import BY_PARAMETER, history_figure, optuna_study, says_something_of_parameters
from modpo_hpc.report.style import COLOURS, canvas, quiet_grid, slanted, small_panels
from modpo_hpc.rewards.accuracy import pair_quality
from modpo_hpc.rewards.calibration import (
    calibration_error,
    cross_fitted_probabilities,
    error_of_the_calibrated,
    fit_temperature,
    out_of_fold,
    reliability,
    sigmoid,
)
from modpo_hpc.rewards.diagnostics import length_shortcut, losses_compared, margins_seen_and_unseen
from modpo_hpc.run import Run
from modpo_hpc.study.rewards import RewardSearch


def rewards_section(run: Run) -> ReportSection | None:
    """Diagnostics of every criterion's reward model; nothing where none is finished."""
    if not run.made("rewards") or run.missing("reward_trials"):
        return None
    predictions = run.table("rewards").to_pandas()
    trials = run.table("reward_trials").to_pandas() if run.made("reward_trials") else pd.DataFrame()
    diagnostics = {str(criterion): diagnose(part) for criterion, part in predictions.groupby("criterion", sort=False)}
    margins = margins_seen_and_unseen(predictions)
    compared = losses_compared(predictions, run.study.rewards.loss)
    responses = run.table("responses", ["response_id", "text"]).to_pandas()
    lengths = dict(zip(responses["response_id"], responses["text"].str.len(), strict=True))
    tables = filled(
        reward_tables.accuracy_table(diagnostics, trials),
        reward_tables.margins_table(margins),
        reward_tables.losses_table(compared),
        reward_tables.length_table(length_shortcut(predictions, lengths)),
        reward_tables.curve_table(predictions),
    )
    if run.made("answer_scores"):
        tables.append(reward_tables.answers_table(run.table("answer_scores").to_pandas(), run.study.rewards.scale))
    return ReportSection(
        "rewards",
        "Reward models",
        "Accuracy is the share of preference pairs in which the model prefers the response that the personas chose.",
        findings=_findings(diagnostics, margins, compared),
        figures=[
            ReportFigure(
                "reward_reliability",
                "How often the reward model is right against how sure it is, on questions that it did not see. "
                "On the diagonal it is calibrated.",
                partial(reliability_figure, diagnostics),
                wide=True,
            ),
            ReportFigure(
                "reward_accuracy",
                "Accuracy on unseen questions by the margin of the votes, from close to clear.",
                partial(margin_figure, diagnostics),
                wide=True,
            ),
            *(_search_figures(trials, run.study.rewards.search) if len(trials) else ()),
            *_correlation(run),
        ],
        tables=tables,
    )


def diagnose(predictions: pd.DataFrame) -> dict[str, Any]:
    """Of the predictions of a criterion: accuracy, calibration before and after, accuracy in quarters of the margin."""
    unseen = out_of_fold(predictions)
    difference = unseen["difference"].to_numpy()
    seen = predictions[predictions["seen"]]
    in_sample = (seen["reward_chosen"] - seen["reward_rejected"]).to_numpy()
    calibrated = cross_fitted_probabilities(unseen)
    accuracy = pair_quality(difference).accuracy
    quarters = np.array_split(np.argsort(unseen["margin"].to_numpy(), kind="stable"), 4)
    by_chance, at_most = error_of_the_calibrated(calibrated)
    return {
        "pairs": len(unseen),
        "accuracy": accuracy,
        "interval": wilson_interval(accuracy * len(unseen), len(unseen)),
        "in_sample": pair_quality(in_sample).accuracy if len(in_sample) else float("nan"),
        "temperature": fit_temperature(difference),
        "error_before": calibration_error(reliability(sigmoid(difference))),
        "error_after": calibration_error(reliability(calibrated)),
        "error_by_chance": by_chance,
        "error_at_most_by_chance": at_most,
        "bins": reliability(calibrated),
        "by_margin": [pair_quality(difference[part]).accuracy for part in quarters if len(part)],
    }


def _search_figures(trials: pd.DataFrame, search: RewardSearch) -> list[ReportFigure]:
    """Every search together, and what each says of its settings, where it has trials enough to say anything."""
    figures = [
        ReportFigure(
            "reward_trials",
            "Held-out accuracy of every trial of the search; open circles were pruned.",
            partial(trials_figure, trials),
            wide=True,
        ),
        ReportFigure(
            "reward_search",
            "The course of each search: the held-out accuracy of its trials, and the best so far as a line.",
            partial(history_figure, trials, search),
            wide=True,
        ),
    ]
    for criterion in dict.fromkeys(trials["criterion"]):
        study = optuna_study(trials, criterion, search)
        if says_something_of_parameters(study):
            figures += [
                ReportFigure(
                    f"reward_search_{criterion}_{name}",
                    f"The search of {formats.title(criterion)}: {what}.",
                    partial(draw, study),
                    folded=True,
                )
                for name, (what, draw) in BY_PARAMETER.items()
            ]
    return figures


def _correlation(run: Run) -> list[ReportFigure]:
    if not run.made("scores"):
        return []
    scores = run.table("scores", ["response_id", "criterion", "reward"]).to_pandas()
    rewards = scores.pivot(index="response_id", columns="criterion", values="reward")
    correlation = rewards[list(dict.fromkeys(scores["criterion"]))].corr()
    return [
        ReportFigure(
            "reward_correlation",
            "Correlation of the rewards of the same responses under two criteria.",
            partial(correlation_figure, correlation),
        )
    ]


def _findings(diagnostics: dict[str, dict[str, Any]], margins: pd.DataFrame, compared: pd.DataFrame) -> Sequence[str]:
    found = list(diagnostics.values())
    low, high = (choose(one["accuracy"] for one in found) for choose in (min, max))
    before, after, chance = (
        float(np.mean([one[name] for one in found])) for name in ("error_before", "error_after", "error_by_chance")
    )
    sentences = [
        f"On questions that they did not see, the reward models are right on {formats.percent(low)} to "
        f"{formats.percent(high)} of the pairs. Calibration takes the expected calibration error from {before:.3f} to "
        f"{after:.3f} on average; models calibrated perfectly would show {chance:.3f} on as many pairs."
    ]
    if len(margins):
        seen, unseen = (float(margins[margins["seen"] == one]["mean"].mean()) for one in (True, False))
        sentences.append(
            f"The margin of a pair is {unseen:.1f} log-odds on average to a model that did not see it, and {seen:.1f} "
            "to the one that was trained on it; MODPO's margins are the former."
        )
    if len(compared):
        clear = int((compared["p"] < 0.05).sum())
        sentences.append(
            f"Learning from whole rankings instead of best and worst responses makes a difference that is not chance "
            f"(p < .05) in {clear} of {len(compared)} criteria."
        )
    return sentences


def reliability_figure(diagnostics: dict[str, dict[str, Any]]) -> Figure:
    """A panel a criterion: accuracy against confidence, area of a point by its pairs."""
    figure, axes_of = small_panels(list(diagnostics), "confidence (%)", "right (%)")
    for axes, found in zip(axes_of, diagnostics.values(), strict=True):
        bins = found["bins"]
        axes.plot([50, 100], [50, 100], color="0.75", linestyle="--", linewidth=1)
        size = 6 + 90 * bins["pairs"] / bins["pairs"].sum()
        axes.plot(100 * bins["confidence"], 100 * bins["accuracy"], color=COLOURS[0], linewidth=0.8, alpha=0.5)
        axes.scatter(100 * bins["confidence"], 100 * bins["accuracy"], s=size, color=COLOURS[0], zorder=3)
        axes.set(xlim=(48, 102), ylim=(-2, 102))
    return figure


def margin_figure(diagnostics: dict[str, dict[str, Any]]) -> Figure:
    """Accuracy in quarters of the vote margin, a column a criterion."""
    figure, axes = canvas(1.4 + 0.6 * len(diagnostics), 3.0)
    for place, found in enumerate(diagnostics.values()):
        right = [100 * accuracy for accuracy in found["by_margin"]]
        across = place + np.linspace(-0.3, 0.3, len(right))
        axes.plot(across, right, marker="o", markersize=3.5, color=COLOURS[0], linewidth=1)
    axes.axhline(50, color="0.75", linestyle="--", linewidth=1)
    slanted(axes, [*map(formats.title, diagnostics)])
    axes.set(ylabel="right (%)", ylim=(min(45.0, axes.get_ylim()[0]), 102))
    quiet_grid(axes, "y")
    return figure


def trials_figure(trials: pd.DataFrame) -> Figure:
    """Accuracy of the trials of each criterion."""
    criteria = list(dict.fromkeys(trials["criterion"]))
    figure, axes = canvas(1.4 + 0.6 * len(criteria), 3.0)
    for place, criterion in enumerate(criteria):
        mine = trials[trials["criterion"] == criterion].sort_values("trial")
        across = place + np.linspace(-0.28, 0.28, len(mine)) if len(mine) > 1 else np.array([place])
        for state, fill in (("complete", COLOURS[0]), ("pruned", "none")):
            of_state = (mine["state"] == state).to_numpy()
            accuracies = 100 * mine["accuracy"].to_numpy()[of_state]
            axes.scatter(across[of_state], accuracies, s=18, facecolor=fill, edgecolor=COLOURS[0])
    slanted(axes, [*map(formats.title, criteria)])
    axes.set_ylabel("held-out accuracy (%)")
    quiet_grid(axes, "y")
    return figure


def correlation_figure(correlation: pd.DataFrame) -> Figure:
    """Heat map of the correlation matrix."""
    names = [formats.title(one) for one in correlation.columns]
    figure, axes = canvas(2.2 + 0.42 * len(names), 1.6 + 0.38 * len(names))
    image = axes.imshow(correlation, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
    for (up, across), value in np.ndenumerate(correlation.to_numpy()):
        ink = "white" if abs(value) > 0.75 else "black"
        axes.text(across, up, f"{value:.2f}", ha="center", va="center", size=6.5, color=ink)
    slanted(axes, names, 40, size=8)
    axes.set_yticks(range(len(names)), names, size=8)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, shrink=0.9, pad=0.03)
    return figure
