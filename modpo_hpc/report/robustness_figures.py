"""Figures on the order, the length and the group."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from modpo_hpc.report import formats
from modpo_hpc.report.results import Results
from modpo_hpc.report.style import COLOURS, canvas, grid, look, panels, percents, quiet_grid

GROUPS_SHOWN = 24


def position_figure(results: Results) -> Figure:
    """Share won by the first shown, a panel a phase and criterion."""
    cells = [(phase, criterion) for phase, one in results.phases.items() for criterion in one["criteria"]]
    most = max(one["pairs"] for one in results.phases.values())
    figure, axes_of = grid(len(cells), min(len(cells), 2), 4.1, 1.1 + 0.2 * most)
    for axes, (phase, criterion) in zip(axes_of, cells, strict=True):
        rows = results.rows("position_bias", phase=phase, criterion=criterion)[::-1]
        places = np.arange(len(rows))
        axes.axvline(50, color="0.6", linewidth=1)
        low, high, share = percents(rows, "low", "high", "first_share")
        axes.hlines(places, low, high, color=COLOURS[0])
        axes.scatter(share, places, s=16, color=COLOURS[0], zorder=3)
        axes.set_yticks(places, [f"{row['policy_a']} : {row['policy_b']}" for row in rows], size=6.5)
        axes.set(ylim=(-0.7, len(rows) - 0.3), title=f"{phase}, {formats.title(criterion)}")
        axes.set_xlabel("won by the first shown (%)")
        quiet_grid(axes, "x")
    return figure


def length_figure(results: Results) -> Figure:
    """Win rate as it is against win rate at equal length."""
    figure, axes = canvas(4.6, 4.0)
    axes.plot([0, 100], [0, 100], color="0.75", linestyle="--", linewidth=1)
    for place, phase in enumerate(results.phases):
        rows = results.rows("length_control", phase=phase)
        x, y, low, high = percents(rows, "win_rate", "controlled", "low", "high")
        axes.vlines(x, low, high, color=look(place)["color"], alpha=0.35, linewidth=1)
        axes.scatter(x, y, s=18, label=phase, zorder=3, **look(place))
    axes.axhline(50, color="0.85", linewidth=1, zorder=0)
    axes.axvline(50, color="0.85", linewidth=1, zorder=0)
    axes.set(xlim=(-2, 102), ylim=(-2, 102), xlabel="A wins, as it is (%)", ylabel="A wins, at equal length (%)")
    axes.legend(loc="upper left")
    return figure


def groups_figure(results: Results, phase: str) -> Figure:
    """The favourite and its best rival in each group, a panel a criterion."""
    criteria = results.phases[phase]["criteria"]
    rows_of = {one: results.rows("groups", phase=phase, criterion=one) for one in criteria}
    names = list(dict.fromkeys((row["attribute"], row["group"]) for rows in rows_of.values() for row in rows))
    names = names[:GROUPS_SHOWN][::-1]
    figure, axes_of = panels(1.6 + 3.1 * len(criteria), 1.2 + 0.24 * len(names), 1, len(criteria), sharey=True)
    for axes, criterion in zip(axes_of, criteria, strict=True):
        favourite = next(row["policy"] for row in rows_of[criterion] if row["favourite"])
        for place, (attribute, group) in enumerate(names):
            here = [row for row in rows_of[criterion] if (row["attribute"], row["group"]) == (attribute, group)]
            own = next(row for row in here if row["favourite"])
            rival = max((row for row in here if not row["favourite"]), key=lambda row: row["win_rate"])
            colour = COLOURS[0] if own["win_rate"] >= rival["win_rate"] else COLOURS[1]
            axes.hlines(place, 100 * own["low"], 100 * own["high"], color=colour)
            axes.scatter(100 * own["win_rate"], place, s=24, color=colour, zorder=3)
            axes.scatter(100 * rival["win_rate"], place, s=20, marker="s", facecolor="none", edgecolor="0.45", zorder=2)
        axes.set(title=f"{formats.title(criterion)}: {favourite}", xlabel="votes won (%)")
        quiet_grid(axes, "x")
    sizes = {(row["attribute"], row["group"]): row["personas"] for rows in rows_of.values() for row in rows}
    axes_of[0].set_yticks(range(len(names)), [f"{name[1]} ({sizes[name]})" for name in names], size=8)
    axes_of[0].set_ylim(-0.7, len(names) - 0.3)
    return figure
