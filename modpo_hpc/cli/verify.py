"""``modpo verify``: every output of a run against its manifest, byte for byte."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modpo_hpc.run import Run


@dataclass(frozen=True)
class Damage:
    """One output that is not as its shard left it."""

    stage: str
    shard: str
    file: str
    problem: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="DIR", help="run directory")
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="this stage only")
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.pipeline import STAGES, stage_named
    from modpo_hpc.run import Run

    the_run = Run.open(arguments.run_dir)
    stages = [stage_named(arguments.stage).name] if arguments.stage else [stage.name for stage in STAGES]
    checked, damages = 0, list[Damage]()
    for stage in stages:
        files, found = query(the_run, stage)
        checked, damages = checked + files, damages + found
    if arguments.json:
        print(json.dumps({"files": checked, "damaged": [asdict(one) for one in damages]}))
    else:
        render(the_run, checked, damages)
    return 1 if damages else 0


def query(run: Run, stage: str) -> tuple[int, list[Damage]]:
    """Number of files that the markers of ``stage`` name, and those that are missing or changed."""
    from modpo_hpc import shards

    checked, damages = 0, []
    folder = run.folder(stage)
    for shard in run.shard_ids(stage):
        marker = shards.read_marker(folder, shard)
        for name, output in (marker.outputs if marker else {}).items():
            checked += 1
            path = folder / name
            if not path.exists():
                damages.append(Damage(stage, shard, str(path), "missing"))
            elif path.stat().st_size != output.bytes:
                damages.append(Damage(stage, shard, str(path), f"{path.stat().st_size} bytes, not {output.bytes}"))
            elif shards.describe_output(path).sha256 != output.sha256:
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
        print(f"modpo rerun {run.root} {stage} {names}")
