"""The finished searches as studies of Optuna's, and Optuna's own plots of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import optuna
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from modpo_hpc.rewards.search_space import space_of
from modpo_hpc.search import Trial, as_optuna
from modpo_hpc.study.rewards import RewardSearch

FEWEST_TRIALS = 8
_TARGET = "held-out accuracy"


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
    values = [trial.value for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE])]
    return len(values) >= FEWEST_TRIALS and len(set(values)) > 1 and bool(_varied(study))


def history_figure(trials: pd.DataFrame, search: RewardSearch) -> Figure:
    """The held-out accuracy of each search over its trials, all criteria together."""
    studies = [optuna_study(trials, criterion, search) for criterion in dict.fromkeys(trials["criterion"])]
    with _optunas():
        axes = optuna.visualization.matplotlib.plot_optimization_history(studies, target_name=_TARGET)
    figure = _figure_of(axes)
    # Optuna's own colours are the same for all studies after the fifth
    for number, study in enumerate(studies):
        for mark in (*axes.collections, *axes.lines):
            if str(mark.get_label()).endswith(f" of {study.study_name}"):
                mark.set_color(pyplot.get_cmap("tab20")(number % 20))  # type: ignore[attr-defined]
    axes.legend(bbox_to_anchor=(1.02, 1.0), loc="upper left", ncols=-(-len(studies) // 8), fontsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _laid_out(figure, 9.0, 4.5)


def importance_figure(study: optuna.Study) -> Figure:
    """How much of the spread of the accuracy each parameter explains (fANOVA, Hutter et al. 2014)."""
    # the forest is seeded, because equal results give equal files
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with _optunas():
        axes = optuna.visualization.matplotlib.plot_param_importances(
            study, evaluator=evaluator, params=_varied(study), target_name=_TARGET
        )
    return _laid_out(_figure_of(axes), 6.4, 3.6)


def slice_figure(study: optuna.Study) -> Figure:
    """Accuracy against each parameter alone, one point a trial."""
    with _optunas():
        axes = optuna.visualization.matplotlib.plot_slice(study, params=_varied(study), target_name=_TARGET)
    return _laid_out(_figure_of(axes), 14.0, 3.6)


def parallel_figure(study: optuna.Study) -> Figure:
    """Every trial as a line through its parameters, coloured by its accuracy."""
    with _optunas():
        axes = optuna.visualization.matplotlib.plot_parallel_coordinate(
            study, params=_varied(study), target_name=_TARGET
        )
    figure = _figure_of(axes)
    figure.set_size_inches(9.0, 4.8)
    figure.subplots_adjust(bottom=0.25)  # its axes lie on one another, which no layout engine takes
    return figure


BY_PARAMETER: dict[str, tuple[str, Callable[[optuna.Study], Figure]]] = {
    "importances": ("which settings decide the accuracy (fANOVA)", importance_figure),
    "slice": ("accuracy by each setting", slice_figure),
    "parallel": ("every trial as a line through its settings", parallel_figure),
}
"""Name -> (what a plot of one criterion's search shows, how it is drawn)."""


def _varied(study: optuna.Study) -> list[str]:
    """The parameters that took more than one value."""
    trials = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [name for name in names if len({trial.params[name] for trial in trials}) > 1]


@contextmanager
def _optunas() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _figure_of(axes: Axes | np.ndarray) -> Figure:
    """The figure that holds ``axes``, taken out of pyplot's list of open ones."""
    figure = (axes if isinstance(axes, Axes) else axes.flat[0]).get_figure()
    assert isinstance(figure, Figure)
    pyplot.close(figure)
    return figure


def _laid_out(figure: Figure, width: float, height: float) -> Figure:
    figure.set_size_inches(width, height)
    figure.set_layout_engine("constrained")
    return figure
