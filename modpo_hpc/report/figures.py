"""The figures of the paper: trade-off of two criteria, ranking, head-to-head matrix, significance matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from modpo_hpc.report import findings, formats, labels
from modpo_hpc.report.results import Results
from modpo_hpc.report.style import COLOURS, canvas, look, panels, quiet_grid


def trade_off(results: Results, phase: str, x: str, y: str) -> Figure:
    """Average win rates under two criteria, one point a policy, with intervals and the Pareto front."""
    by_policy = results.by_policy(phase)
    order = results.phases[phase]["policies"]
    figure, axes = canvas(5.2, 4.2)
    points = [(100 * by_policy[policy][x]["win_rate"], 100 * by_policy[policy][y]["win_rate"]) for policy in order]
    for place, (policy, point) in enumerate(zip(order, points, strict=True)):
        across, up = by_policy[policy][x], by_policy[policy][y]
        mark = look(place)
        faint = {"color": mark["color"], "alpha": 0.45, "linewidth": 1.2, "zorder": 2}
        axes.plot([100 * across["low"], 100 * across["high"]], [point[1]] * 2, **faint)
        axes.plot([point[0]] * 2, [100 * up["low"], 100 * up["high"]], **faint)
        axes.scatter(*point, s=46, zorder=3, edgecolor="white", linewidth=0.6, **mark)
    front = sorted(points[order.index(row["policy"])] for row in results.rows("pareto", phase=phase) if row["on_front"])
    axes.plot(*zip(*front, strict=True), color="0.75", linestyle="--", linewidth=1, zorder=1)
    span = np.array(points)
    for limits, values in ((axes.set_xlim, span[:, 0]), (axes.set_ylim, span[:, 1])):
        margin = max(8.0, 0.18 * float(np.ptp(values)))
        limits(max(-3.0, values.min() - margin), min(103.0, values.max() + margin))
    axes.set_xlabel(f"{formats.title(x)}: average win rate (%)")
    axes.set_ylabel(f"{formats.title(y)}: average win rate (%)")
    quiet_grid(axes)
    labels.place(axes, points, order)
    return figure


def head_to_head(results: Results, phase: str, criterion: str) -> Figure:
    """Win rate of row against column, policies ordered best to worst."""
    order = results.order(phase, criterion)
    values = np.full((len(order), len(order)), np.nan)
    for row in results.rows("win_rates", phase=phase, criterion=criterion):
        a, b = order.index(row["policy_a"]), order.index(row["policy_b"])
        values[a, b], values[b, a] = 100 * row["win_rate_a"], 100 * row["win_rate_b"]
    figure, axes = canvas(1.9 + 0.58 * len(order), 1.5 + 0.48 * len(order))
    image = axes.imshow(values, cmap="PuOr_r", vmin=0, vmax=100, aspect="auto")
    for (up, across), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if value < 18 or value > 82 else "black"
            axes.text(across, up, f"{value:.0f}", ha="center", va="center", size=8, color=ink)
    _name_cells(axes, order)
    axes.set_title(f"{formats.title(criterion)}: win rate of row against column (%)")
    outline: Any = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.03).outline
    outline.set_visible(False)
    return figure


def significance(results: Results, phase: str, criterion: str) -> Figure:
    """p-value of McNemar's test of row against column, coloured by who wins where it is significant."""
    order = results.order(phase, criterion)
    winner, text = np.full((len(order), len(order)), np.nan), {}
    correction = results.summary["settings"]["correction"]
    column = "p" if correction == "none" else f"p_{correction}"
    for row in results.rows("mcnemar", phase=phase, criterion=criterion):
        a, b = order.index(row["policy_a"]), order.index(row["policy_b"])
        direction = np.sign(row["b"] - row["c"]) * row["significant"]
        winner[a, b], winner[b, a] = direction, -direction
        text[a, b] = text[b, a] = formats.p_value(row[column])
    figure, axes = canvas(1.6 + 0.58 * len(order), 1.75 + 0.48 * len(order))
    colours = ListedColormap(["#7fb3d5", "#f2f2f2", "#f5b041"])
    axes.imshow(winner, cmap=colours, norm=BoundaryNorm([-1.5, -0.5, 0.5, 1.5], 3), aspect="auto")
    for (up, across), value in text.items():
        axes.text(across, up, value, ha="center", va="center", size=8)
    _name_cells(axes, order)
    axes.set_title(f"{formats.title(criterion)}: p of McNemar's test,\n{findings.CORRECTION_NAMES[correction]}")
    axes.set_xlabel("orange: row wins, blue: column wins,\ngrey: no difference shown", size=7.5)
    return figure


def ranking(results: Results, phase: str) -> Figure:
    """Average win rate of each policy with its interval, a panel a criterion."""
    criteria = results.phases[phase]["criteria"]
    count = len(results.phases[phase]["policies"])
    figure, axes_of = panels(0.8 + 3.3 * len(criteria), 1.1 + 0.34 * count, 1, len(criteria))
    for place, (axes, criterion) in enumerate(zip(axes_of, criteria, strict=True)):
        colour = COLOURS[place % len(COLOURS)]
        rows = results.rows("ranking", phase=phase, criterion=criterion)[::-1]
        rates = np.array([100 * row["win_rate"] for row in rows])
        places = np.arange(len(rows))
        axes.hlines(places, 0, rates, color=colour, alpha=0.25, linewidth=5)
        axes.hlines(places, [100 * row["low"] for row in rows], [100 * row["high"] for row in rows], color=colour)
        axes.scatter(rates, places, color=colour, zorder=3)
        axes.set_yticks(places, [row["policy"] for row in rows])
        axes.set_xlim(0, 100)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_title(formats.title(criterion))
        axes.set_xlabel("average win rate (%)")
        quiet_grid(axes, "x")
    return figure


def _name_cells(axes: Axes, order: Sequence[str]) -> None:
    places = range(len(order))
    axes.set_xticks(places, order, rotation=40, ha="right", rotation_mode="anchor", size=8)
    axes.set_yticks(places, order, size=8)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for edge in np.arange(len(order) + 1) - 0.5:
        axes.axhline(edge, color="white", linewidth=1.5)
        axes.axvline(edge, color="white", linewidth=1.5)
