"""Figures on the reward models: calibration, accuracy by margin and by trial, overlap of the criteria."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from modpo_hpc.report import formats
from modpo_hpc.report.style import COLOURS, canvas, quiet_grid, slanted, small_panels


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
