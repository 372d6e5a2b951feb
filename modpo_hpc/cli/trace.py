"""``modpo trace DIR ID``: a number of the report, the rows and files behind it, and the lines that compute it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="DIR", help="run directory")
    parser.add_argument(
        "id", metavar="ID", nargs="?", help="as the report shows it (hover over a number); all ids if not given"
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.report.results import finite
    from modpo_hpc.report.trace import all_ids, trace
    from modpo_hpc.run import Run

    opened = Run.open(arguments.run)
    if arguments.id is None:
        ids = all_ids(opened)
        print(json.dumps(dict(ids)) if arguments.json else "\n".join(f"{identity}\t{text}" for identity, text in ids))
        return 0
    found = trace(opened, arguments.id)
    if arguments.json:
        print(json.dumps(finite(json.loads(json.dumps(asdict(found)))), indent=1))
        return 0
    print(f"{found.id}: {found.text}")
    for one in found.origins:
        row = ", ".join(f"{name} {value}" for name, value in one.row.items() if value not in ("", None))
        print(f"\n{one.column} of statistics/{one.table}.parquet\n  {row}\n")
        print("From the raw verdicts:" if one.from_verdicts else "From the stored statistics (drawn or fitted):")
        print("".join(f"    {line}\n" for line in one.code.splitlines()), end="")
    first = found.origins[0].row if found.origins else {}
    if "policy_a" in first:
        print(
            f"\nThe single cases: modpo cases {opened.root} --phase {first['phase']} --criterion {first['criterion']} "
            f"--pair {first['policy_a']} {first['policy_b']}"
        )
    if found.also:
        print("\nThe numbers of this sentence stand in: " + ", ".join(found.also))
    if found.files:
        print("\nFiles and their SHA-256, as when they were made:")
        for _, _, file, sha256 in found.files:
            print(f"  {sha256[:16]}  {file}")
    return 0
