"""``modpo cancel``: take the jobs of a run, of a stage or of a shard out of the queue."""

from __future__ import annotations

import argparse

from modpo_hpc.cli.arguments import add_flag, add_run_dir, first_of
from modpo_hpc.launch.commands import SlurmSilent, require_slurm
from modpo_hpc.launch.repair import cancel, select_jobs
from modpo_hpc.launch.state import take_snapshot
from modpo_hpc.launch.submissions import record_goal
from modpo_hpc.launch.transaction import transaction
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="this stage only")
    parser.add_argument("shards", metavar="SHARD", nargs="*", help="these shards only")
    add_flag(parser, "--dry-run", "say which jobs would go; take out nothing")


def run(arguments: argparse.Namespace) -> int:
    if arguments.stage:
        stage_named(arguments.stage)
    the_run = Run.open(arguments.run_dir)
    require_slurm()
    if arguments.dry_run:
        snapshot = take_snapshot(the_run)
        if snapshot.silent:
            raise SlurmSilent(snapshot.silent)
        jobs = select_jobs(snapshot, arguments.stage, arguments.shards)
        print(f"would be cancelled: {' '.join(jobs) or 'nothing'}")
        return 0
    with transaction(the_run) as snapshot:
        jobs = select_jobs(snapshot, arguments.stage, arguments.shards)
        ended = cancel(snapshot, jobs, "asked")
        if not arguments.stage and snapshot.journal.goal:
            record_goal(the_run, ())  # whoever tends the run hands in nothing more
    if hidden := [one for states in snapshot.shards.values() for one in states.values() if one.state == "unknown"]:
        print(f"{len(hidden)} shards have jobs that are not of this cluster, or not this run's: they were left alone")
    if not ended:
        print("nothing of this is queued or running")
        return 0
    print(f"cancelled {len(ended)} job{'s' if len(ended) > 1 else ''} ({first_of(jobs, 8)}); what is done is kept")
    return 0
