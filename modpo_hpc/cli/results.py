"""``modpo results DIR``: rankings and McNemar's tests in the terminal."""

from __future__ import annotations

import argparse
import json
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="DIR", help="run directory")
    parser.add_argument("--json", action="store_true", help="print every table as one JSON object")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from modpo_hpc.core.code import stages_of_different_code
    from modpo_hpc.errors import IncompleteError
    from modpo_hpc.report import terminal
    from modpo_hpc.report.results import as_json, read_completeness, read_results
    from modpo_hpc.run import Run

    opened = Run.open(args.run)
    try:
        results = read_results(opened)
    except IncompleteError:
        cells = read_completeness(opened)
        if any(cell["lost"] for cell in cells) and not args.json:
            terminal.show_incomplete(
                cells, Console(stderr=True, width=terminal.WIDTH if not sys.stderr.isatty() else None)
            )
        raise
    if args.json:
        print(json.dumps(as_json(results), indent=1, allow_nan=False))
        return 0
    terminal.show(results, Console(width=None if sys.stdout.isatty() else terminal.WIDTH))
    for sentence in stages_of_different_code(opened):
        print(f"\n{sentence}", file=sys.stderr)
    if (page := opened.folder("report") / "report.html").exists():
        print(f"\nreport: {page}")
    return 0
