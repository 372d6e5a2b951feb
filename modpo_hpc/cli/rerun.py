"""``modpo rerun``: make shards of one stage again, on this machine."""

from __future__ import annotations

import argparse
import time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="DIR", help="run directory")
    parser.add_argument("stage", metavar="STAGE", help="stage, for instance responses")
    parser.add_argument(
        "shards", nargs="*", metavar="SHARD", help="exactly these, done or not; without any: the missing ones"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="CPUs to use at once")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.cli.progress import follow
    from modpo_hpc.cli.run import conclude
    from modpo_hpc.errors import InputError
    from modpo_hpc.launch.local import Capacity, LocalExecutor
    from modpo_hpc.pipeline import stage_named
    from modpo_hpc.run import Run
    from modpo_hpc.shards import marker_path

    the_run, stage = Run.open(arguments.run_dir), stage_named(arguments.stage)
    known = the_run.shard_ids(stage.name)
    if unknown := [shard for shard in arguments.shards if shard not in known]:
        raise InputError(
            f"stage {stage.name} has no such shard",
            field="SHARD",
            value=unknown[0],
            remedy=f"Its shards: {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}.",
        )
    for need in stage.needs:
        the_run.require(need)
    for shard in arguments.shards:
        marker_path(the_run.folder(stage.name), shard).unlink(missing_ok=True)
    wanted = [(stage.name, shard) for shard in arguments.shards or the_run.missing(stage.name)]
    started = time.monotonic()
    with follow(the_run, (stage,)) as progress:
        executor = LocalExecutor(the_run, Capacity.of_this_machine(arguments.jobs), progress.changed)
        failed = executor.run((stage,), only=wanted)
    return conclude(the_run, failed, time.monotonic() - started)
