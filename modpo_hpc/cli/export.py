"""``modpo export``: what a run holds, in the authors' formats, as datasets of the hub, and as adapters."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="DIR", help="run directory")
    parser.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="new or empty folder to write to")
    parser.add_argument(
        "--format",
        action="append",
        choices=("authors", "datasets", "adapters"),
        dest="formats",
        help="one of the formats, may be repeated; all of them if not given",
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.exchange.exports import FORMATS, write_out
    from modpo_hpc.run import Run

    written = write_out(Run.open(arguments.run_dir), arguments.to, tuple(arguments.formats or FORMATS))
    if arguments.json:
        print(json.dumps({"folder": str(arguments.to), "entries": written}))
        return 0
    print(f"exported to {arguments.to} (it may hold survey answers and posts: keep it as closed as the run)")
    for path, entries in written.items():
        print(f"  {entries:>8,}  {path}")
    return 0
