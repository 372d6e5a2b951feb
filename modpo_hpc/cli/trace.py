"""``modpo trace DIR ID``: a number of the report, the rows and files behind it, and the lines that compute it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

START = {
    "verdicts": "From the raw verdicts",
    "statistics": "From the stored statistics (drawn, fitted, or counted there)",
    "files": "From the files of the stage",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="DIR", help="run directory")
    parser.add_argument(
        "id", metavar="ID", nargs="?", help="as the report shows it (hover over a number); all ids if not given"
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.report.results import finite
    from modpo_hpc.report.trace import Traced
    from modpo_hpc.run import Run

    traced = Traced(Run.open(arguments.run))
    if arguments.id is None:
        ids = {identity: place.text for identity, place in traced.places.items()}
        print(json.dumps(ids) if arguments.json else "\n".join(f"{one}\t{text}" for one, text in ids.items()))
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
        print(f"\n{START[one.rests_on]}:")
        print("".join(f"    {line}\n" for line in one.code.splitlines()), end="")
    first = next((one.row for one in found.origins if "policy_a" in one.row), None)
    if first:
        print(
            f"\nThe single cases: modpo cases {traced.run.root} --phase {first['phase']} "
            f"--criterion {first['criterion']} --pair {first['policy_a']} {first['policy_b']}"
        )
    if found.also:
        print("\nNumbers of this sentence stand in: " + ", ".join(found.also))
    if found.files:
        print("\nFiles and their SHA-256, as when they were made:")
        for _, _, file, sha256 in found.files:
            print(f"  {sha256[:16]}  {file}")
    return 0
