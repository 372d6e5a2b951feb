"""Figures on the reward models: calibration, accuracy by margin and by trial, overlap of the criteria."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from modpo_hpc.report import formats
from modpo_hpc.report.style import COLOURS, canvas, panels, quiet_grid


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
        axes.set_title(formats.title(criterion), size=8.5)
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
        [formats.title(one) for one in diagnostics],
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_ylabel("right (%)")
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
        range(len(criteria)), [formats.title(one) for one in criteria], rotation=35, ha="right", rotation_mode="anchor"
    )
    axes.set_ylabel("held-out accuracy (%)")
    quiet_grid(axes, "y")
    return figure


def correlation_figure(correlation: pd.DataFrame) -> Figure:
    """Heat map of the correlation matrix."""
    names = [formats.title(one) for one in correlation.columns]
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
