"""Figure of the audit: what the judge says beside what people say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from modpo_hpc.report import formats
from modpo_hpc.report.style import COLOURS, canvas, quiet_grid


def rates_figure(people: Mapping[str, Any]) -> Figure:
    """The judge's win rates beside people's and the corrected ones, with their intervals."""
    rows = people["criteria"]
    figure, axes = canvas(6.2, 0.9 + 0.75 * len(rows))
    for place, row in enumerate(reversed(rows)):
        powered, corrected = row["prediction_powered"], row["corrected"]
        lines = [
            ("judge alone", powered["naive"], powered["naive"], powered["naive"]),
            ("labels alone", powered["classical"], powered["classical_low"], powered["classical_high"]),
            ("prediction-powered", powered["estimate"], powered["low"], powered["high"]),
        ]
        if corrected and corrected["informative"]:
            lines.append(("judge's errors corrected", corrected["estimate"], corrected["low"], corrected["high"]))
        for number, (name, value, low, high) in enumerate(lines):
            axes.errorbar(
                100 * value,
                place + 0.27 - 0.18 * number,
                xerr=[[100 * max(value - low, 0)], [100 * max(high - value, 0)]],
                fmt="o",
                color=COLOURS[number],
                capsize=2,
                markersize=4,
                label=name if place == 0 else None,
            )
    axes.axvline(50, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [formats.title(row["criterion"]) for row in reversed(rows)])
    axes.set_ylim(-0.5, len(rows) - 0.4)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"questions for {people['a']} against {people['b']} (%)")
    quiet_grid(axes, "x")
    figure.legend(loc="outside upper center", ncols=2, fontsize=7.5)
    return figure
