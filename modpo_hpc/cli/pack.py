"""``modpo pack``: a finished run as one file; with ``--verify`` the check of a run, or of such a file anywhere."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from modpo_hpc.core.markers import describe_output, read_marker
from modpo_hpc.packing import pack, verify_pack
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.run import Run


@dataclass(frozen=True)
class Damage:
    """One output that is not as its shard left it."""

    stage: str
    shard: str
    file: str
    problem: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR|FILE", help="run directory to pack; with --verify, what to check")
    parser.add_argument("--to", metavar="FILE", help="where to write the pack; DIR.tar if not given")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="hold every file of a run or a pack against its manifest; pack nothing",
    )
    parser.add_argument("--stage", metavar="STAGE", help="with --verify: this stage of a run only")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="STAGE", help="outputs to leave behind, such as rewards"
    )
    parser.add_argument("--partial", action="store_true", help="pack a run that is not finished")
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.rehearsal.report import size

    if arguments.verify and Path(arguments.path).is_dir():
        return verify(Run.open(arguments.path), arguments.stage, arguments.json)
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


def verify(the_run: Run, stage: str | None, as_data: bool) -> int:
    """Every output of a run against its manifest, byte for byte."""
    stages = [stage_named(stage).name] if stage else [one.name for one in STAGES]
    checked, damages = 0, list[Damage]()
    for name in stages:
        files, found = query(the_run, name)
        checked, damages = checked + files, damages + found
    if as_data:
        print(json.dumps({"files": checked, "damaged": [asdict(one) for one in damages]}))
    else:
        render(the_run, checked, damages)
    return 1 if damages else 0


def query(run: Run, stage: str) -> tuple[int, list[Damage]]:
    """Number of files that the markers of ``stage`` name, and those that are missing or changed."""
    checked, damages = 0, []
    folder = run.folder(stage)
    for shard in run.shard_ids(stage):
        marker = read_marker(folder, shard)
        for name, output in (marker.outputs if marker else {}).items():
            checked += 1
            path = folder / name
            if not path.exists():
                damages.append(Damage(stage, shard, str(path), "missing"))
            elif path.stat().st_size != output.bytes:
                damages.append(Damage(stage, shard, str(path), f"{path.stat().st_size} bytes, not {output.bytes}"))
            elif describe_output(path).sha256 != output.sha256:
                damages.append(Damage(stage, shard, str(path), "other content than when it was made"))
    return checked, damages


def render(run: Run, checked: int, damages: list[Damage]) -> None:
    """One line a damage, and the commands that mend them."""
    for one in damages:
        print(f"{one.stage} {one.shard}: {one.file}: {one.problem}")
    if not damages:
        print(f"{checked:,} files are as they were made")
        return
    print(f"{len(damages)} of {checked:,} files are damaged. Make their shards again with:")
    for stage in dict.fromkeys(one.stage for one in damages):
        names = " ".join(dict.fromkeys(one.shard for one in damages if one.stage == stage))
        print(f"modpo rerun {run.quoted} {stage} {names}")
