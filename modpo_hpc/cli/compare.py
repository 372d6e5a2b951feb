"""``modpo compare RUN RUN ...``: the tables of several runs side by side, with the spread between them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from modpo_hpc.cli.arguments import add_flag
from modpo_hpc.cli.consoles import console
from modpo_hpc.core.atomic import atomic_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories, two or more")
    add_flag(parser, "--json", "print the comparison as one JSON object")
    parser.add_argument("--out", metavar="DIR", help="also write it there as a page, CSV and LaTeX")


def run(args: argparse.Namespace) -> int:
    from modpo_hpc.evaluation.tables import finite
    from modpo_hpc.report import comparison, terminal
    from modpo_hpc.report.files import files_of

    runs = comparison.read_runs(args.runs)
    results = {name: one for name, (_, one) in runs.items()}
    mark = next((one.mark for one in results.values() if one.mark), None)
    if args.json:
        compared = {
            "sandbox": mark,
            "runs": {name: str(opened.root) for name, (opened, _) in runs.items()},
            "ranking": comparison.ranking_rows(results),
            "pairs": comparison.pair_rows(results),
            "judges": comparison.judge_rows({name: opened for name, (opened, _) in runs.items()}),
        }
        print(json.dumps(finite(compared), indent=1, allow_nan=False))
        if not args.out:
            return 0
    sections = comparison.sections_of(runs)
    if args.out:
        for name, content in files_of("Comparison of runs", sections, mark):
            with atomic_file(Path(args.out) / name) as stream:
                stream.write(content)
    if not args.json:
        terminal.show_sections(sections, mark, console(elsewhere=terminal.WIDE))
    return 0
