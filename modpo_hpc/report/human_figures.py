"""The panels of the paper's figure on clinicians: outcomes, agreement, consensus, confusion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from modpo_hpc.human.analysis import Tables
from modpo_hpc.report.formats import title
from modpo_hpc.report.style import COLOURS

BLUE, ORANGE, GREEN = COLOURS[:3]
GREY = "#9aa0a6"
ABOVE: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False, "fontsize": 8}
"""Where legends stand, and how."""


def panels(tables: Tables, a: str, b: str, mark: str | None) -> Figure:
    """Four panels in one figure; those that need the model's verdicts are left out without them."""
    with_model = "consensus" in tables
    figure = Figure(figsize=(11, 8.2 if with_model else 4.4), layout="constrained")
    grid = figure.subplots(2 if with_model else 1, 2, squeeze=False)
    _outcomes(grid[0, 0], tables["outcomes"], a, b)
    if with_model:
        _agreement(grid[0, 1], tables["model_agrees"])
        _consensus(grid[1, 0], tables["consensus"])
        _confusion(grid[1, 1], tables["confusion"], a, b)
    else:
        _kappa(grid[0, 1], tables["raters_agree"])
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    if mark:
        figure.suptitle(mark, fontsize=9, color="#8a5a00")
    return figure


def _outcomes(axes: Axes, table: pd.DataFrame, a: str, b: str) -> None:
    part = table.iloc[::-1]
    places = np.arange(len(part))
    left = np.zeros(len(part))
    for name, colour, ink, label in (("A", BLUE, "white", a), ("tie", GREY, "black", "tie"), ("B", ORANGE, "white", b)):
        shares = part[f"{name}_share"].to_numpy(float)
        bars = axes.barh(places, shares, left=left, color=colour, label=label)
        told = [f"{share:.0%}" if share >= 0.06 else "" for share in shares]
        axes.bar_label(bars, told, label_type="center", color=ink, fontsize=8)
        left = left + shares
    axes.set_yticks(places, [title(one) for one in part["criterion"]])
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.legend(ncols=3, **ABOVE)
    axes.set_xlabel("share of questions, by the label of the raters")


def _agreement(axes: Axes, part: pd.DataFrame) -> None:
    criteria = list(dict.fromkeys(part[part["who"] == "model"]["criterion"]))
    measures = ("accuracy", "ac1", "kappa")
    labels = [
        f"{title(criterion)}\n{measure.upper() if measure == 'ac1' else measure}"
        for criterion in criteria
        for measure in measures
    ]
    for offset, who, colour in ((-0.2, "model", BLUE), (0.2, "raters, each left out", GREEN)):
        rows = part[part["who"] == who].set_index("criterion")
        heights = [float(rows[measure][criterion]) for criterion in criteria for measure in measures]
        errors = None
        if who != "model":
            errors = [rows.at[criterion, f"{measure}_sem"] for criterion in criteria for measure in measures]
        axes.bar(np.arange(len(labels)) + offset, heights, 0.38, yerr=errors, color=colour, label=who, capsize=2)
    for number, criterion in enumerate(criteria):
        constant = part[(part["criterion"] == criterion) & (part["who"] == "model")]["constant"].iloc[0]
        axes.hlines(constant, 3 * number - 0.45, 3 * number + 0.45, color="black", linestyle="--", linewidth=1)
    axes.set_xticks(np.arange(len(labels)), labels, fontsize=8)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_ylabel("agreement (dashes: always the same answer)")
    axes.legend(ncols=2, **ABOVE)


def _consensus(axes: Axes, part: pd.DataFrame) -> None:
    """Accuracy by strength of consensus; below it, in the colour of each criterion, how many questions had it."""
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    listed = [(str(name), rows) for name, rows in part.groupby("criterion", sort=False)]
    for place, (criterion, rows) in enumerate(listed):
        colour = COLOURS[place % len(COLOURS)]
        agreeing = rows["agreeing"] / rows["raters"]
        accuracy = rows["accuracy"].to_numpy(float)
        below, above = accuracy - rows["low"], rows["high"] - accuracy
        axes.errorbar(
            agreeing + 0.015 * (place - (len(listed) - 1) / 2),
            accuracy,
            yerr=np.clip([below, above], 0, None),
            fmt="o-",
            color=colour,
            capsize=3,
            label=title(criterion),
        )
        row = -0.09 - 0.07 * place
        for x, n in zip(agreeing, rows["n"], strict=True):
            axes.text(x, row, str(n), ha="center", va="center", fontsize=8, color=colour)
        axes.text(-0.012, row, "n", ha="right", va="center", fontsize=8, color=colour, transform=beside)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_ylim(-0.09 - 0.07 * len(listed), 1.06)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_xlim(right=1.04)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set(xlabel="raters who agree with the majority", ylabel="accuracy of the model")
    axes.legend(ncols=3, **ABOVE)


def _confusion(axes: Axes, part: pd.DataFrame, a: str, b: str) -> None:
    criterion = "overall" if "overall" in set(part["criterion"]) else part["criterion"].iloc[0]
    rows = part[part["criterion"] == criterion].set_index("consensus")
    counts = rows.loc[["A", "tie", "B"], ["model_A", "model_tie", "model_B"]].to_numpy(int)
    axes.imshow(counts, cmap="Blues", vmin=0, vmax=max(1, counts.max()))
    for (row, column), count in np.ndenumerate(counts):
        ink = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=ink)
    axes.set_xticks(range(3), [a, "tie", b], fontsize=8)
    axes.set_yticks(range(3), [a, "tie", b], fontsize=8)
    axes.set(xlabel=f"model, {title(criterion)}", ylabel="label of the raters")


def _kappa(axes: Axes, table: pd.DataFrame) -> None:
    part = table.iloc[::-1]
    axes.barh([title(one) for one in part["criterion"]], part["fleiss_kappa"], color=GREEN)
    axes.set_xlabel("Fleiss' kappa of the raters")
