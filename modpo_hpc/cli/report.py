"""``modpo report DIR``: make the report of a run, or say where it is."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout

from modpo_hpc.cli.arguments import add_flag, add_run_dir, show
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    add_flag(parser, "--json", "print the place of the page as JSON")


def run(args: argparse.Namespace) -> int:
    from modpo_hpc.report.files import PAGE
    from modpo_hpc.report.results import read_results

    opened = Run.open(args.run_dir)
    read_results(opened)
    with redirect_stdout(sys.stderr):
        run_shard(str(opened.root), "report", "all")
    place = opened.folder("report") / PAGE
    show(args.json, {"report": str(place)}, f"{place}\nOpen it with a browser; it needs nothing else.")
    return 0
