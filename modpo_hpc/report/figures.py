"""The figures of the paper. Each function takes results and gives one matplotlib figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import combinations, cycle
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from modpo_hpc.report import labels, words
from modpo_hpc.report.results import Results

# Okabe and Ito's palette: told apart with every common form of colour blindness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
FORMATS = ("svg", "pdf", "png")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "modpo-hpc",
    "pdf.fonttype": 42,
}


def render(figure: Figure, form: str) -> bytes:
    """The bytes of ``figure`` as svg, pdf or png; the same figure gives the same bytes."""
    stream = io.BytesIO()
    without_date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[form]
    with rc_context(_STYLE):
        figure.savefig(stream, format=form, dpi=200, metadata=without_date, bbox_inches="tight", facecolor="white")
    return stream.getvalue()


def figures_of(results: Results) -> dict[str, Figure]:
    """Every figure that the results allow, by file name."""
    made: dict[str, Figure] = {}
    with rc_context(_STYLE):
        for phase, size in results.phases.items():
            criteria = size["criteria"]
            for x, y in combinations(criteria, 2):
                made[f"{phase}_{x}_{y}"] = trade_off(results, phase, x, y)
            made[f"{phase}_ranking"] = ranking(results, phase)
            for criterion in criteria:
                made[f"{phase}_{criterion}_head_to_head"] = head_to_head(results, phase, criterion)
                made[f"{phase}_{criterion}_significance"] = significance(results, phase, criterion)
    return made


def trade_off(results: Results, phase: str, x: str, y: str) -> Figure:
    """Average win rates under two criteria, one point a policy, with intervals and the Pareto front."""
    by_policy = results.by_policy(phase)
    figure, axes = _canvas(results, 5.2, 4.2)
    points, order = [], results.phases[phase]["policies"]
    for policy, colour, marker in zip(order, cycle(COLOURS), cycle(MARKERS), strict=False):
        at, up = by_policy[policy][x], by_policy[policy][y]
        points.append((100 * at["win_rate"], 100 * up["win_rate"]))
        for along, across, row in ((0, 1, at), (1, 0, up)):
            if not np.isnan(row["low"]):
                ends = np.full((2, 2), 100.0 * (up if along == 0 else at)["win_rate"])
                ends[:, along], ends[:, across] = (100 * row["low"], 100 * row["high"]), points[-1][across]
                axes.plot(ends[:, 0], ends[:, 1], color=colour, alpha=0.45, linewidth=1.2, zorder=2)
        axes.scatter(*points[-1], color=colour, marker=marker, s=46, zorder=3, edgecolor="white", linewidth=0.6)
    front = sorted(points[order.index(row["policy"])] for row in results.rows("pareto", phase=phase) if row["on_front"])
    axes.plot(*zip(*front, strict=True), color="0.75", linestyle="--", linewidth=1, zorder=1, label="Pareto front")
    span = np.array(points)
    for limits, values in ((axes.set_xlim, span[:, 0]), (axes.set_ylim, span[:, 1])):
        margin = max(8.0, 0.18 * float(np.ptp(values)))
        limits(max(-3.0, values.min() - margin), min(103.0, values.max() + margin))
    axes.set_xlabel(f"{words.title(x)}: average win rate (%)")
    axes.set_ylabel(f"{words.title(y)}: average win rate (%)")
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    labels.place(axes, points, order)
    return figure


def head_to_head(results: Results, phase: str, criterion: str) -> Figure:
    """Win rate of row against column, policies ordered best to worst."""
    order = [row["policy"] for row in results.rows("ranking", phase=phase, criterion=criterion)]
    values = np.full((len(order), len(order)), np.nan)
    for row in results.rows("win_rates", phase=phase, criterion=criterion):
        a, b = order.index(row["policy_a"]), order.index(row["policy_b"])
        values[a, b], values[b, a] = 100 * row["win_rate_a"], 100 * row["win_rate_b"]
    figure, axes = _canvas(results, 1.9 + 0.58 * len(order), 1.5 + 0.48 * len(order))
    image = axes.imshow(values, cmap="PuOr_r", vmin=0, vmax=100, aspect="auto")
    for (row_place, column_place), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if value < 18 or value > 82 else "black"
            axes.text(column_place, row_place, f"{value:.0f}", ha="center", va="center", size=8, color=ink)
    _name_cells(axes, order)
    axes.set_title(f"{words.title(criterion)}: win rate of row against column (%)")
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.03)
    bar.outline.set_visible(False)
    return figure


def significance(results: Results, phase: str, criterion: str) -> Figure:
    """p-value of McNemar's test of row against column, coloured by who wins and how surely."""
    order = [row["policy"] for row in results.rows("ranking", phase=phase, criterion=criterion)]
    level, text = np.full((len(order), len(order)), np.nan), {}
    correction = results.summary["settings"]["correction"]
    column = "p" if correction == "none" else f"p_{correction}"
    for row in results.rows("mcnemar", phase=phase, criterion=criterion):
        a, b = order.index(row["policy_a"]), order.index(row["policy_b"])
        direction = np.sign(row["b"] - row["c"]) * row["significant"]
        level[a, b], level[b, a] = direction, -direction
        text[a, b] = text[b, a] = words.p_value(row[column])
    figure, axes = _canvas(results, 1.6 + 0.58 * len(order), 1.6 + 0.48 * len(order))
    colours = ListedColormap(["#7fb3d5", "#f2f2f2", "#f5b041"])
    axes.imshow(level, cmap=colours, norm=BoundaryNorm([-1.5, -0.5, 0.5, 1.5], 3), aspect="auto")
    for (row_place, column_place), value in text.items():
        axes.text(column_place, row_place, value, ha="center", va="center", size=8)
    _name_cells(axes, order)
    axes.set_title(f"{words.title(criterion)}: p of McNemar's test")
    axes.set_xlabel(
        f"orange: row wins, blue: column wins, {words.correction_words(results)}; grey: no difference shown", size=7.5
    )
    return figure


def ranking(results: Results, phase: str) -> Figure:
    """Average win rate of each policy with its interval, a panel a criterion."""
    criteria = results.phases[phase]["criteria"]
    count = len(results.phases[phase]["policies"])
    figure = Figure(figsize=(0.8 + 3.3 * len(criteria), 1.1 + 0.34 * count), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(criteria)))
    for axes, criterion, colour in zip(panels, criteria, cycle(COLOURS), strict=False):
        rows = results.rows("ranking", phase=phase, criterion=criterion)[::-1]
        rates = np.array([100 * row["win_rate"] for row in rows])
        places = np.arange(len(rows))
        axes.hlines(places, 0, rates, color=colour, alpha=0.25, linewidth=5)
        axes.hlines(places, [100 * row["low"] for row in rows], [100 * row["high"] for row in rows], color=colour)
        axes.scatter(rates, places, color=colour, zorder=3)
        axes.set_yticks(places, [row["policy"] for row in rows])
        axes.set_xlim(0, 100)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_title(words.title(criterion))
        axes.set_xlabel("average win rate (%)")
        axes.grid(axis="x", color="0.93")
        axes.set_axisbelow(True)
    _write_mark(figure, results)
    return figure


def _canvas(results: Results, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    _write_mark(figure, results)
    return figure, axes


def _write_mark(figure: Figure, results: Results) -> None:
    if results.mark:
        figure.supxlabel(results.mark, size=7, color="0.45", style="italic")


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
