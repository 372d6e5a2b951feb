"""``modpo cancel``: take the jobs of a run, of a stage or of a shard out of the queue."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="DIR", help="run directory")
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="this stage only")
    parser.add_argument("shards", metavar="SHARD", nargs="*", help="these shards only")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.launch.commands import require_slurm
    from modpo_hpc.launch.repair import cancel, select_jobs
    from modpo_hpc.launch.state import take_snapshot
    from modpo_hpc.launch.submissions import locked
    from modpo_hpc.pipeline import stage_named
    from modpo_hpc.run import Run

    if arguments.stage:
        stage_named(arguments.stage)
    the_run = Run.open(arguments.run_dir)
    require_slurm()
    with locked(the_run):
        snapshot = take_snapshot(the_run)
        jobs = select_jobs(snapshot, arguments.stage, arguments.shards)
        ended = cancel(snapshot, jobs, "asked")
    if not ended:
        print("nothing of this is queued or running")
        return 0
    shown = ", ".join(jobs[:8]) + (f" and {len(jobs) - 8} more" if len(jobs) > 8 else "")
    print(f"cancelled {len(ended)} shard{'s' if len(ended) > 1 else ''} (job {shown}); what is done is kept")
    return 0
