"""The figures of the paper: trade-off of two criteria, ranking, head-to-head matrix, significance matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure

from modpo_hpc.report import findings, formats, labels, matrices
from modpo_hpc.report.parts import Matrix
from modpo_hpc.report.results import Results
from modpo_hpc.report.style import COLOURS, canvas, look, panels, percents, quiet_grid, slanted


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
    axes.set(xlabel=f"{formats.title(x)}: average win rate (%)", ylabel=f"{formats.title(y)}: average win rate (%)")
    quiet_grid(axes)
    labels.place(axes, points, order)
    return figure


def head_to_head(results: Results, phase: str, criterion: str) -> Figure:
    """Win rate of row against column, policies ordered best to worst."""
    matrix = matrices.win_rates(results, phase, criterion)
    figure, axes = canvas(1.9 + 0.58 * len(matrix.names), 1.5 + 0.48 * len(matrix.names))
    _draw(axes, matrix)
    axes.set_title(f"{formats.title(criterion)}: win rate of row against column (%)")
    scale = ScalarMappable(Normalize(0, 100), matrices.RATES)
    outline: Any = figure.colorbar(scale, ax=axes, shrink=0.9, pad=0.03).outline
    outline.set_visible(False)
    return figure


def significance(results: Results, phase: str, criterion: str) -> Figure:
    """p-value of McNemar's test of row against column, coloured by who wins where it is significant."""
    matrix = matrices.p_values(results, phase, criterion)
    figure, axes = canvas(1.6 + 0.58 * len(matrix.names), 1.75 + 0.48 * len(matrix.names))
    _draw(axes, matrix)
    correction = results.summary["settings"]["correction"]
    axes.set_title(f"{formats.title(criterion)}: p of McNemar's test,\n{findings.CORRECTION_NAMES[correction]}")
    axes.set_xlabel("orange: row wins, blue: column wins,\ngrey: no difference shown", size=7.5)
    return figure


def _draw(axes: Axes, matrix: Matrix) -> None:
    """The cells of ``matrix`` with their names on both sides."""
    image = np.ones((len(matrix.names), len(matrix.names), 3))
    for (row, column), tile in matrix.tiles.items():
        up, across = matrix.names.index(row), matrix.names.index(column)
        image[up, across] = to_rgb(tile.background)
        axes.text(across, up, tile.text, ha="center", va="center", size=8, color=tile.ink)
    axes.imshow(image, aspect="auto")
    slanted(axes, matrix.names, 40, size=8)
    axes.set_yticks(range(len(matrix.names)), matrix.names, size=8)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for edge in np.arange(len(matrix.names) + 1) - 0.5:
        axes.axhline(edge, color="white", linewidth=1.5)
        axes.axvline(edge, color="white", linewidth=1.5)


def ranking(results: Results, phase: str) -> Figure:
    """Average win rate of each policy with its interval, a panel a criterion."""
    criteria = results.phases[phase]["criteria"]
    count = len(results.phases[phase]["policies"])
    figure, axes_of = panels(0.8 + 3.3 * len(criteria), 1.1 + 0.34 * count, 1, len(criteria))
    for place, (axes, criterion) in enumerate(zip(axes_of, criteria, strict=True)):
        colour = COLOURS[place % len(COLOURS)]
        rows = results.rows("ranking", phase=phase, criterion=criterion)[::-1]
        rates, low, high = percents(rows, "win_rate", "low", "high")
        places = np.arange(len(rows))
        axes.hlines(places, 0, rates, color=colour, alpha=0.25, linewidth=5)
        axes.hlines(places, low, high, color=colour)
        axes.scatter(rates, places, color=colour, zorder=3)
        axes.set_yticks(places, [row["policy"] for row in rows])
        axes.set(xlim=(0, 100), ylim=(-0.6, len(rows) - 0.4))
        axes.set(title=formats.title(criterion), xlabel="average win rate (%)")
        quiet_grid(axes, "x")
    return figure
