"""``modpo results DIR``: rankings and McNemar's tests in the terminal."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

from modpo_hpc.cli.arguments import add_flag, add_run_dir
from modpo_hpc.cli.consoles import console
from modpo_hpc.core.code import stages_of_different_code
from modpo_hpc.core.snapshots import drift_of_judges
from modpo_hpc.errors import IncompleteError
from modpo_hpc.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    add_flag(parser, "--json", "print every table as one JSON object")


def run(args: argparse.Namespace) -> int:
    from modpo_hpc.evaluation.tables import finite
    from modpo_hpc.report import terminal
    from modpo_hpc.report.fronts import fronts_section, read_fronts
    from modpo_hpc.report.repeats import read_repeats, repeats_section
    from modpo_hpc.report.results import as_json, read_completeness, read_results

    opened = Run.open(args.run_dir)
    try:
        results = read_results(opened)
    except IncompleteError:
        cells = read_completeness(opened)
        if any(cell["lost"] for cell in cells) and not args.json:
            terminal.show_incomplete(cells, console(elsewhere=terminal.WIDTH, stderr=True))
        raise
    if args.json:
        more = {"fronts": read_fronts(opened), "repeats": read_repeats(opened)}
        found = {name: finite(tables) for name, tables in more.items() if tables}
        told = {**as_json(results), **found, "drift": drift_of_judges(opened)}
        print(json.dumps(told, indent=1, allow_nan=False))
        return 0
    shown = console(elsewhere=terminal.WIDTH)
    terminal.show(results, shown)
    for section in filter(None, (fronts_section(opened), repeats_section(opened))):
        shown.print()
        unfolded = replace(section, tables=[table for table in section.tables if not table.folded])
        terminal.show_sections([unfolded], None, shown)
    for sentence in [*stages_of_different_code(opened), *drift_of_judges(opened)]:
        print(f"\n{sentence}", file=sys.stderr)
    if (page := opened.folder("report") / "report.html").exists():
        print(f"\nreport: {page}")
    return 0
