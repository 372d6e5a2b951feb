"""Figures of the search of reward models: its course, and what it says of each setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from modpo_hpc.report import formats
from modpo_hpc.report.style import COLOURS, canvas, grid, look, quiet_grid, slanted, small_panels
from modpo_hpc.rewards.search_space import space_of
from modpo_hpc.search import Trial, as_optuna
from modpo_hpc.study.rewards import RewardSearch

FEWEST_TRIALS = 8
_ACCURACY = "held-out accuracy (%)"


def optuna_study(trials: pd.DataFrame, criterion: str, search: RewardSearch) -> optuna.Study:
    """The finished search of ``criterion`` as a study of Optuna's, from the table ``reward_trials``."""
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


def says_something_of_parameters(study: optuna.Study) -> bool:
    """Whether plots by parameter are worth drawing: eight complete trials that differ in settings and in accuracy."""
    values = _values(study)
    return len(values) >= FEWEST_TRIALS and len(set(values)) > 1 and bool(_varied(study))


def history_figure(trials: pd.DataFrame, search: RewardSearch) -> Figure:
    """A panel a criterion: the held-out accuracy of its trials, and the best so far."""
    criteria = list(dict.fromkeys(trials["criterion"]))
    figure, axes_of = small_panels(criteria, "trial", _ACCURACY)
    for axes, criterion in zip(axes_of, criteria, strict=True):
        study = optuna_study(trials, criterion, search)
        values = 100 * np.array(_values(study))
        numbers = [trial.number for trial in _complete(study)]
        axes.scatter(numbers, values, s=14, color=COLOURS[0], zorder=3)
        axes.step(numbers, np.maximum.accumulate(values), where="post", color=COLOURS[1], linewidth=1.1)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def importance_figure(study: optuna.Study) -> Figure:
    """How much of the spread of the accuracy each parameter explains (fANOVA, Hutter et al. 2014)."""
    # the forest is seeded, because equal results give equal files
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=_varied(study))
    figure, axes = canvas(5.2, 0.9 + 0.34 * len(found))
    bars = axes.barh([formats.title(name) for name in found], list(found.values()), height=0.6, color=COLOURS[0])
    axes.bar_label(bars, fmt="%.2f", padding=3, size=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("share of the spread explained")
    quiet_grid(axes, "x")
    return figure


def slice_figure(study: optuna.Study) -> Figure:
    """Accuracy against each parameter alone, one point a trial."""
    names, done = _varied(study), _complete(study)
    figure, axes_of = grid(len(names), min(len(names), 3), 2.4, 2.2, (0.4, 0.0), sharey=True)
    for axes, name in zip(axes_of, names, strict=True):
        values = [trial.params[name] for trial in done]
        low, high = min(values), max(values)
        if len(set(values)) <= 5:
            axes.set_xticks(sorted(set(values)))
        elif _is_log(study, name):
            axes.set_xscale("log")
            ends = [low, (low * high) ** 0.5, high]
            axes.set_xticks(ends, [f"{one:.2g}" for one in ends])
            axes.set_xticks([], minor=True)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.scatter(values, [100 * value for value in _values(study)], s=14, color=COLOURS[0])
        axes.set_xlabel(formats.title(name))
        quiet_grid(axes)
    figure.supylabel(_ACCURACY, size=9)
    return figure


def parallel_figure(study: optuna.Study) -> Figure:
    """Every trial as a line through its parameters, each from its lowest to its highest value; the best third dark."""
    names, done, values = _varied(study), _complete(study), np.array(_values(study))
    figure, axes = canvas(1.6 + 1.15 * (len(names) + 1), 3.2)
    columns = [_scaled(axes, at, [trial.params[name] for trial in done], _is_log(study, name))
               for at, name in enumerate(names)]  # fmt: skip
    columns.append(_scaled(axes, len(names), list(100 * values), False))
    best = values >= np.quantile(values, 2 / 3)
    for heights, good in sorted(zip(zip(*columns, strict=True), best, strict=True), key=lambda one: one[1]):
        mark = look(0)["color"] if good else "0.75"
        axes.plot(range(len(columns)), heights, color=mark, linewidth=1.2 if good else 0.8, zorder=3 if good else 2)
    slanted(axes, [*map(formats.title, names), _ACCURACY], 25)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color="0.85")
    axes.margins(x=0.06, y=0.14)
    return figure


BY_PARAMETER: dict[str, tuple[str, Callable[[optuna.Study], Figure]]] = {
    "importances": ("which settings decide the accuracy (fANOVA)", importance_figure),
    "slice": ("accuracy by each setting", slice_figure),
    "parallel": (
        "every trial as a line through its settings, each from the lowest to the highest that was tried; the best "
        "third of the trials in blue",
        parallel_figure,
    ),
}
"""Name -> (what a plot of one criterion's search shows, how it is drawn)."""


def _scaled(axes: Axes, at: int, values: list[float], log: bool) -> list[float]:
    """Heights from 0 to 1 of ``values`` on the line at ``at``, whose ends are written there."""
    known = np.log(values) if log else np.array(values, dtype=float)
    low, high = known.min(), known.max()
    letters: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "size": 7.5}
    axes.annotate(f"{min(values):.3g}", (at, 0.0), (0, -6), va="top", **letters)
    axes.annotate(f"{max(values):.3g}", (at, 1.0), (0, 6), va="bottom", **letters)
    return list((known - low) / (high - low) if high > low else np.full(len(known), 0.5))


def _complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=[optuna.trial.TrialState.COMPLETE])


def _values(study: optuna.Study) -> list[float]:
    return [float(trial.value) for trial in _complete(study) if trial.value is not None]


def _is_log(study: optuna.Study, name: str) -> bool:
    return bool(getattr(_complete(study)[0].distributions[name], "log", False))


def _varied(study: optuna.Study) -> list[str]:
    """The parameters that took more than one value."""
    trials = _complete(study)
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [name for name in names if len({trial.params[name] for trial in trials}) > 1]
