"""``modpo efficiency``: what the jobs of a run used of what they asked for, and a profile that fits that."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from modpo_hpc.cli.arguments import add_json, add_run_dir, quoted, require_new
from modpo_hpc.cli.consoles import console, table_of
from modpo_hpc.cli.progress import duration
from modpo_hpc.errors import IncompleteError
from modpo_hpc.launch.efficiency import Efficiency, ask_usage, efficiencies, fitted, totals
from modpo_hpc.launch.profile import Profile
from modpo_hpc.launch.state import take_snapshot
from modpo_hpc.launch.submissions import kept_profile
from modpo_hpc.run import Run

WIDE = 200
"""Columns: a narrow terminal folds a line rather than that a figure is cut."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument("--write-profile", type=Path, metavar="FILE", help="the run's profile with what was measured")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    the_run = Run.open(arguments.run_dir)
    profile = kept_profile(the_run) or Profile()
    snapshot = take_snapshot(the_run)
    rows = efficiencies(snapshot, ask_usage(snapshot), profile.prices.gpu_hour)
    if not rows:
        raise IncompleteError(f"no job of {the_run.root} has run yet. Where it stands: modpo status {the_run.quoted}")
    if arguments.write_profile:
        import yaml

        require_new(arguments.write_profile)
        fields = fitted(profile, rows, snapshot).model_dump(mode="json", exclude_defaults=True)
        head = f"# Memory and time as measured in the run {the_run.root.name}, with a margin.\n"
        arguments.write_profile.write_text(head + yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    if arguments.json:
        print(json.dumps({"stages": [asdict(row) for row in rows], "total": totals(rows)}))
        return 0
    render(rows, profile.prices.currency)
    if arguments.write_profile:
        print(f"wrote it; the next submit takes it with --profile {quoted(arguments.write_profile)}")
    return 0


def render(rows: list[Efficiency], currency: str) -> None:
    """A row a stage, used of asked; the hours below it."""
    gpus = any(row.gpu_hours for row in rows)
    shown = console()
    shown.width = WIDE
    shown.print(table_of([_cells(row) | (_cells_of_gpus(row, currency) if gpus else {}) for row in rows]))
    total = totals(rows)
    hours = f"{total['hours']:.2f} hours, {total['wasted_hours']:.2f} of them wasted"
    print(f"{total['gb_hours']:.2f} GB-hours asked, {hours}")


def _cells(row: Efficiency) -> dict[str, str]:
    return {
        "stage": row.stage,
        "jobs": str(row.jobs),
        "memory": f"{row.memory_gb:.2f}" if row.memory_gb is not None else "",
        "of GB": f"{row.asked_gb:g}",
        "CPU": f"{row.cpu_share:.0%}" if row.cpu_share is not None else "",
        "time": duration(row.seconds),
        "of": duration(row.asked_seconds),
        "waited": duration(row.waited) if row.waited is not None else "",
        "hours": f"{row.hours:.2f}",
        "wasted": f"{row.wasted_hours:.2f}" if row.wasted_hours else "",
    }


def _cells_of_gpus(row: Efficiency, currency: str) -> dict[str, str]:
    share = f"{row.gpu_share:.0%}" if row.gpu_share is not None else ""
    return {"GPU": share, "GPU-h": f"{row.gpu_hours:.2f}", currency: f"{row.price:.2f}"}
