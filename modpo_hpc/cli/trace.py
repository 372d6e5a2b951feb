"""``modpo trace DIR ID``: a number of the report, the rows and files behind it, and the lines that compute it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from modpo_hpc.cli.arguments import add_flag, add_json, add_run_dir, show
from modpo_hpc.report.formats import counted
from modpo_hpc.run import Run

if TYPE_CHECKING:
    from modpo_hpc.report.trace import Traced

START = {
    "verdicts": "From the raw verdicts",
    "statistics": "From the stored statistics (drawn, fitted, or counted there)",
    "files": "From the files of the stage",
    "package": "Computed by {}, of the package (draws with seeds, a fit, or more than ten lines)",
}

CHECKED = {
    "verdicts": "from the raw verdicts",
    "statistics": "from the stored statistics",
    "files": "from the files of other stages",
    "package": "from functions of the package",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument(
        "id", metavar="ID", nargs="?", help="as the report shows it (hover over a number); all ids if not given"
    )
    add_flag(parser, "--check", "run the lines of every number, and say which do not give it")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.evaluation.tables import finite
    from modpo_hpc.report.trace import Traced

    traced = Traced(Run.open(arguments.run_dir))
    if arguments.check:
        return _check(traced, [arguments.id] if arguments.id else list(traced.places), arguments.json)
    if arguments.id is None:
        ids = {identity: place.text for identity, place in traced.places.items()}
        show(arguments.json, ids, "\n".join(f"{one}\t{text}" for one, text in ids.items()))
        return 0
    found = traced.trace(arguments.id)
    if arguments.json:
        print(json.dumps(finite(json.loads(json.dumps(asdict(found)))), indent=1))
        return 0
    print(f"{found.id}: {found.text}")
    for one in found.origins:
        if one.row:
            row = ", ".join(f"{name} {value}" for name, value in one.row.items() if value not in ("", None))
            print(f"\n{one.column} of statistics/{one.table}.parquet\n  {row}")
        print(f"\n{START[one.rests_on].format(', '.join(one.computed_by))}:")
        print("".join(f"    {line}\n" for line in one.code.splitlines()), end="")
    first = next((one.row for one in found.origins if "policy_a" in one.row), None)
    if first:
        print(
            f"\nThe single cases: modpo cases {traced.run.quoted} --phase {first['phase']} "
            f"--criterion {first['criterion']} --pair {first['policy_a']} {first['policy_b']}"
        )
    if found.also:
        print("\nNumbers of this sentence stand in: " + ", ".join(found.also))
    if found.files:
        print("\nFiles and their SHA-256, as when they were made:")
        for _, _, file, sha256 in found.files:
            print(f"  {sha256[:16]}  {file}")
    return 0


def _check(traced: Traced, ids: list[str], as_json: bool) -> int:
    """1 where the lines of a number do not give it."""
    from modpo_hpc.report.trace_check import check

    found = check(traced, ids)
    lines = [
        f"{identity}: its lines do not give {', '.join(missing) or 'it in ten lines'}\n    {text}"
        for identity, text, missing in found.unexplained
    ]
    starts = ", ".join(f"{number:,} {CHECKED[start]}" for start, number in found.starts.items())
    lines.append(
        f"{counted(found.numbers, 'number')} in {counted(found.places, 'place')} (cells and sentences), of which "
        f"{len(found.unexplained)} are not explained by their lines. These start {starts}."
    )
    show(as_json, asdict(found), "\n".join(lines))
    return 1 if found.unexplained else 0
