"""Section on how the policies were trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modpo_hpc.methods import Trained
from modpo_hpc.report import formats
from modpo_hpc.report.parts import ReportFigure, ReportSection, Shown, is_number, numbers, text
from modpo_hpc.report.style import grid, line, quiet_grid
from modpo_hpc.run import Run

CURVES = {
    "loss": "training loss",
    "held_out_loss": "loss on held-out pairs",
    "held_out_accuracy": "accuracy on held-out pairs",
    "reward_margin": "margin of the implicit reward",
}


@dataclass(frozen=True)
class Log:
    """Log and summary of one training."""

    rows: list[dict[str, Any]]
    summary: dict[str, Any]

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of one quantity."""
        found = [(row["step"], row[name]) for row in self.rows if is_number(row.get(name))]
        return [step for step, _ in found], [value for _, value in found]


def training_section(run: Run) -> ReportSection | None:
    """Curves and figures of every trained policy; nothing where none was trained."""
    logs = read_logs(run)
    if not logs:
        return None
    policies = run.study.alignment.trained
    own = {name: policies[name].figures(log.summary) for name, log in logs.items()}
    own_columns = tuple(dict.fromkeys(column for measured in own.values() for column in measured))
    rows = [[*_row(name, log), *(own[name].get(column, "") for column in own_columns)] for name, log in logs.items()]
    notes = dict.fromkeys(policies[name].figures_note for name, measured in own.items() if measured)
    headings = (
        "pairs",
        "held out",
        "dropped",
        "steps",
        "last loss",
        "held-out loss",
        "held-out accuracy",
        *own_columns,
    )
    return ReportSection(
        "training",
        "Training of the policies",
        findings=_warnings(logs, policies),
        figures=[
            ReportFigure(
                "training", "Training of every policy, step by step.", partial(training_figure, logs), wide=True
            )
        ],
        tables=[
            Shown(
                ". ".join(("The trainings", *notes)),
                [text("Policy"), text("Method"), *numbers(*headings)],
                rows,
                "training",
            )
        ],
    )


def read_logs(run: Run) -> dict[str, Log]:
    """The training of every policy that has one, in the order of the study."""
    return {
        name: log
        for stage in ("policies", "conditioned")
        for name in run.shard_ids(stage)
        if (log := read_log(run.folder(stage) / name))
    }


def read_log(folder: Path) -> Log | None:
    """What a training left in ``folder``, or None."""
    log, summary = folder / "log.jsonl", folder / "summary.json"
    if not (log.exists() and summary.exists()):
        return None
    return Log([json.loads(row) for row in log.read_text().splitlines()], json.loads(summary.read_text()))


def training_figure(logs: Mapping[str, Log]) -> Figure:
    """A panel a quantity, a curve a policy; the training loss is smoothed over a twentieth of the steps."""
    shown = {name: title for name, title in CURVES.items() if any(log.curve(name)[0] for log in logs.values())}
    figure, axes_of = grid(len(shown), 2, 3.5, 2.6)
    for axes, (name, title) in zip(axes_of, shown.items(), strict=True):
        for place, (policy, log) in enumerate(logs.items()):
            steps, values = log.curve(name)
            if steps:
                _draw(axes, steps, values, policy, place)
        axes.set(title=title, xlabel="step")
        quiet_grid(axes)
    handles = {
        label: handle for axes in axes_of for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, fontsize=8)
    return figure


def _draw(axes: Axes, steps: list[float], values: list[float], policy: str, place: int) -> None:
    window = max(1, len(values) // 20)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    if len(values) < 12:
        axes.plot(steps, values, marker="o", markersize=3, label=policy, **line(place))
    else:
        axes.plot(steps[window - 1 :], smooth, linewidth=1.3, label=policy, **line(place))


def _row(name: str, log: Log) -> list[str]:
    summary, losses = log.summary, log.curve("loss")[1]
    held_out = summary.get("held_out") or {}
    examples = summary.get("examples", {})
    return [
        name,
        summary.get("method", ""),
        f"{examples.get('training', 0):,}",
        f"{examples.get('held_out', 0):,}",
        f"{examples.get('dropped', 0):,}",
        f"{summary.get('steps', 0):,}",
        f"{losses[-1]:.3f}" if losses else "",
        f"{held_out['held_out_loss']:.3f}" if is_number(held_out.get("held_out_loss")) else "",
        formats.percent(held_out["held_out_accuracy"]) if is_number(held_out.get("held_out_accuracy")) else "",
    ]


def _warnings(logs: Mapping[str, Log], policies: Mapping[str, Trained]) -> list[str]:
    found = [f"{name}: {said}" for name, log in logs.items() for said in policies[name].findings(log.summary)]
    stopped = [name for name, log in logs.items() if log.summary.get("stopped_early")]
    if stopped:
        found.append(f"Stopped early: {', '.join(stopped)}.")
    return found
