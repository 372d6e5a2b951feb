"""Section on the reward models: search, accuracy on unseen questions, calibration, overlap of the criteria."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from modpo_hpc.report import words
from modpo_hpc.report.parts import Picture, Section, Shown, numbers, text
from modpo_hpc.report.style import COLOURS, canvas, panels, quiet_grid
from modpo_hpc.rewards.accuracy import wilson_interval
from modpo_hpc.rewards.calibration import (
    calibration_error,
    cross_fitted_probabilities,
    fit_temperature,
    out_of_fold,
    reliability,
    sigmoid,
)
from modpo_hpc.rewards.diagnostics import history_figure, learning_curve, length_shortcut
from modpo_hpc.run import Run


def rewards_section(run: Run) -> Section | None:
    """Diagnostics of every criterion's reward model; nothing where none is finished."""
    if not run.made("rewards") or run.missing("reward_trials"):
        return None
    predictions = run.table("rewards").to_pandas()
    trials = run.table("reward_trials").to_pandas() if run.made("reward_trials") else pd.DataFrame()
    diagnostics = {criterion: diagnose(part) for criterion, part in predictions.groupby("criterion", sort=False)}
    pictures = [
        Picture(
            "reward_reliability",
            "How often the reward model is right against how sure it is, on questions that it did not see. "
            "On the diagonal it is calibrated.",
            partial(reliability_figure, diagnostics),
            wide=True,
        ),
        Picture(
            "reward_accuracy",
            "Accuracy on unseen questions by the margin of the votes, from close to clear.",
            partial(margin_figure, diagnostics),
            wide=True,
        ),
    ]
    if len(trials):
        pictures.append(
            Picture(
                "reward_trials",
                "Held-out accuracy of every trial of the search; open circles were pruned.",
                partial(trials_figure, trials),
                wide=True,
            )
        )
        pictures.append(
            Picture(
                "reward_search",
                "The course of each search: the held-out accuracy of its trials, and the best so far (Optuna's plot).",
                partial(history_figure, trials, run.study.rewards.search),
            )
        )
    if run.made("scores"):
        correlation = criterion_correlation(run.table("scores", ["response_id", "criterion", "reward"]).to_pandas())
        pictures.append(
            Picture(
                "reward_correlation",
                "Correlation of the rewards of the same responses under two criteria.",
                partial(correlation_figure, correlation),
            )
        )
    return Section(
        "rewards",
        "Reward models",
        "Accuracy is the share of preference pairs in which the model prefers the response that the personas chose.",
        findings=[_words(diagnostics)],
        pictures=pictures,
        tables=[_table(diagnostics, trials), *_scrutiny(run, predictions)],
    )


def diagnose(predictions: pd.DataFrame) -> dict[str, Any]:
    """Of the predictions of one criterion: accuracies, calibration before and after, accuracy by margin."""
    unseen = out_of_fold(predictions)
    difference = unseen["difference"].to_numpy()
    seen = predictions[predictions["seen"]]
    in_sample = (seen["reward_chosen"] - seen["reward_rejected"]).to_numpy()
    calibrated = cross_fitted_probabilities(unseen)
    return {
        "pairs": len(unseen),
        "accuracy": accuracy(difference),
        "interval": wilson_interval(accuracy(difference) * len(unseen), len(unseen)),
        "in_sample": accuracy(in_sample) if len(in_sample) else float("nan"),
        "temperature": fit_temperature(difference),
        "error_before": calibration_error(reliability(sigmoid(difference))),
        "error_after": calibration_error(reliability(calibrated)),
        "bins": reliability(calibrated),
        "by_margin": by_margin(unseen["margin"].to_numpy(), difference),
    }


def accuracy(difference: np.ndarray) -> float:
    """Share of pairs in which the chosen response has the higher reward; equal rewards count half."""
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def by_margin(margins: np.ndarray, difference: np.ndarray, parts: int = 4) -> list[tuple[float, float]]:
    """Mean vote margin and accuracy in quantiles of the vote margin."""
    order = np.argsort(margins, kind="stable")
    return [
        (float(margins[part].mean()), accuracy(difference[part])) for part in np.array_split(order, parts) if len(part)
    ]


def criterion_correlation(scores: pd.DataFrame) -> pd.DataFrame:
    """Correlation matrix of the criteria over the responses."""
    return scores.pivot(index="response_id", columns="criterion", values="reward")[
        list(dict.fromkeys(scores["criterion"]))
    ].corr()


def reliability_figure(diagnostics: dict[str, dict[str, Any]]) -> Figure:
    """A panel a criterion: accuracy against confidence, area of a point by its pairs."""
    columns = min(len(diagnostics), 4)
    rows = -(-len(diagnostics) // columns)
    figure, axes_of = panels(1.9 * columns + 0.4, 1.9 * rows + 0.3, rows, columns, sharex=True, sharey=True)
    for place, (criterion, found) in enumerate(diagnostics.items()):
        axes, bins = axes_of[place], found["bins"]
        axes.plot([50, 100], [50, 100], color="0.75", linestyle="--", linewidth=1)
        size = 6 + 90 * bins["pairs"] / bins["pairs"].sum()
        axes.plot(100 * bins["confidence"], 100 * bins["accuracy"], color=COLOURS[0], linewidth=0.8, alpha=0.5)
        axes.scatter(100 * bins["confidence"], 100 * bins["accuracy"], s=size, color=COLOURS[0], zorder=3)
        axes.set_title(words.title(criterion), size=8.5)
        axes.set_xlim(48, 102)
        axes.set_ylim(-2, 102)
        quiet_grid(axes)
    for axes in axes_of[len(diagnostics) :]:
        axes.set_visible(False)
    for place in range(max(0, len(diagnostics) - columns), len(diagnostics)):
        axes_of[place].tick_params(labelbottom=True)
        axes_of[place].set_xlabel("confidence (%)", size=8)
    figure.supylabel("right (%)", size=9)
    return figure


def margin_figure(diagnostics: dict[str, dict[str, Any]]) -> Figure:
    """Accuracy in quarters of the vote margin, a column a criterion."""
    figure, axes = canvas(1.4 + 0.6 * len(diagnostics), 3.0)
    for place, found in enumerate(diagnostics.values()):
        points = found["by_margin"]
        across = place + np.linspace(-0.3, 0.3, len(points))
        axes.plot(
            across, [100 * right for _, right in points], marker="o", markersize=3.5, color=COLOURS[0], linewidth=1
        )
    axes.axhline(50, color="0.75", linestyle="--", linewidth=1)
    axes.set_xticks(
        range(len(diagnostics)),
        [words.title(one) for one in diagnostics],
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_ylabel("right on unseen questions (%)")
    axes.set_ylim(min(45.0, axes.get_ylim()[0]), 102)
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
            axes.scatter(
                across[of_state],
                100 * mine["accuracy"].to_numpy()[of_state],
                s=18,
                facecolor=fill,
                edgecolor=COLOURS[0],
            )
    axes.set_xticks(
        range(len(criteria)), [words.title(one) for one in criteria], rotation=35, ha="right", rotation_mode="anchor"
    )
    axes.set_ylabel("held-out accuracy (%)")
    quiet_grid(axes, "y")
    return figure


def correlation_figure(correlation: pd.DataFrame) -> Figure:
    """Heat map of the correlation matrix."""
    names = [words.title(one) for one in correlation.columns]
    figure, axes = canvas(2.2 + 0.42 * len(names), 1.6 + 0.38 * len(names))
    image = axes.imshow(correlation, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
    for (up, across), value in np.ndenumerate(correlation.to_numpy()):
        axes.text(
            across,
            up,
            f"{value:.2f}",
            ha="center",
            va="center",
            size=6.5,
            color="white" if abs(value) > 0.75 else "black",
        )
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", size=8)
    axes.set_yticks(range(len(names)), names, size=8)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, shrink=0.9, pad=0.03)
    return figure


def _words(diagnostics: dict[str, dict[str, Any]]) -> str:
    low, high = (choose(found["accuracy"] for found in diagnostics.values()) for choose in (min, max))
    before, after = (
        float(np.mean([found[name] for found in diagnostics.values()])) for name in ("error_before", "error_after")
    )
    return (
        f"On questions that they did not see, the reward models are right on {words.percent(low)} to "
        f"{words.percent(high)} of the pairs. Calibration takes the expected calibration error from {before:.3f} to "
        f"{after:.3f} on average."
    )


def _table(diagnostics: dict[str, dict[str, Any]], trials: pd.DataFrame) -> Shown:
    done = Counter(zip(trials["criterion"], trials["state"], strict=True)) if len(trials) else Counter()
    rows = [
        [
            words.title(criterion),
            f"{found['pairs']:,}",
            words.percent(found["accuracy"]),
            words.interval(*found["interval"]),
            words.percent(found["in_sample"]),
            f"{found['temperature']:.3g}",
            f"{found['error_before']:.3f}",
            f"{found['error_after']:.3f}",
            f"{done[criterion, 'complete']} + {done[criterion, 'pruned']}",
        ]
        for criterion, found in diagnostics.items()
    ]
    headings = (
        "pairs",
        "unseen",
        "interval",
        "seen in training",
        "temperature",
        "ECE raw",
        "ECE calibrated",
        "trials + pruned",
    )
    return Shown(
        "Accuracy and calibration of the reward models", [text("Criterion"), *numbers(*headings)], rows, "rewards"
    )


def _scrutiny(run: Run, predictions: pd.DataFrame) -> list[Shown]:
    """Does the model read more than length, and would more data help."""
    responses = run.table("responses", ["response_id", "text"]).to_pandas()
    lengths = dict(zip(responses["response_id"], responses["text"].str.len(), strict=True))
    shortcut = length_shortcut(predictions, lengths)
    parts = {"all": "all pairs", "1": "alike", "2": "between", "3": "most unlike"}
    rows = [
        [
            words.title(row["criterion"]),
            parts[row["part"]],
            f"{row['difference']:.0f}",
            f"{row['pairs']:,}",
            words.percent(row["model"]),
            words.percent(row["length"]),
        ]
        for row in shortcut.to_dict("records")
    ]
    tables = [
        Shown(
            "The models beside a judge that sees length alone, by how unlike the two responses are in length",
            [text("Criterion"), text("Lengths"), *numbers("characters apart", "pairs", "model", "length alone")],
            rows,
            "reward_length",
            folded=True,
        )
    ]
    curve = learning_curve(predictions)
    if len(curve):
        rows = [
            [
                words.title(row["criterion"]),
                words.percent(row["share"]),
                words.percent(row["accuracy"]),
                words.interval(row["low"], row["high"]),
            ]
            for row in curve.to_dict("records")
        ]
        tables.append(
            Shown(
                "Accuracy on the same unseen pairs by the share of the training questions",
                [text("Criterion"), *numbers("share", "accuracy", "interval")],
                rows,
                "reward_learning_curve",
                folded=True,
            )
        )
    return tables
