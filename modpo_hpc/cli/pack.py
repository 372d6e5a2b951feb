"""``modpo pack``: a finished run as one file, and the check of such a file anywhere."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR|FILE", help="run directory to pack; with --verify, the pack to check")
    parser.add_argument("--to", metavar="FILE", help="where to write the pack; DIR.tar if not given")
    parser.add_argument("--verify", action="store_true", help="read a pack and hold every file against its manifest")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="STAGE", help="outputs to leave behind, such as rewards"
    )
    parser.add_argument("--partial", action="store_true", help="pack a run that is not finished")
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.packing import pack, verify_pack
    from modpo_hpc.rehearsal.report import size
    from modpo_hpc.run import Run

    if arguments.verify:
        target = Path(arguments.path)
        packed = verify_pack(target)
        said = "whole: every file is what was packed"
    else:
        the_run = Run.open(arguments.path)
        target = Path(arguments.to) if arguments.to else the_run.root.with_name(f"{the_run.root.name}.tar")
        packed = pack(the_run, target, tuple(arguments.leave_out), arguments.partial)
        said = f"check it elsewhere with: modpo pack --verify {target.name}; unpack it with: tar xf {target.name}"
    if arguments.json:
        print(json.dumps({**asdict(packed), "file": str(target)}))
    else:
        print(f"{target}: {packed.files:,} files, {size(packed.bytes)} of the run {packed.name}.")
        print(f"{said[0].upper()}{said[1:]}.")
        if not arguments.verify:
            print("It holds personas and posts: keep it where only those may read it who may read the run.")
    return 0
