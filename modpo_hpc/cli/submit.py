"""``modpo submit``: the whole graph of a study, or what is missing of it, into the queue of a Slurm cluster."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from modpo_hpc.cli.arguments import add_study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modpo_hpc.launch.profile import Profile
    from modpo_hpc.launch.submissions import Submission
    from modpo_hpc.pipeline import Stage
    from modpo_hpc.run import Run
    from modpo_hpc.study import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument("--run", required=True, metavar="DIR", help="run directory, on a filesystem that all nodes see")
    parser.add_argument(
        "--profile", required=True, metavar="P", help="cluster profile: a file, or a name of slurm/profiles"
    )
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--until", metavar="STAGE", help="this stage and what it needs")
    some.add_argument("--only", metavar="STAGE", help="this stage alone; what it needs must be done or queued")
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch files; hand in nothing")
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.checks import cautions, check_inputs
    from modpo_hpc.launch.commands import require_slurm
    from modpo_hpc.launch.profile import load_profile
    from modpo_hpc.run import Run
    from modpo_hpc.study import load_study

    study, profile = load_study(arguments.study, arguments.overrides), load_profile(arguments.profile)
    stages = chosen_stages(arguments.until, arguments.only)
    check_inputs(study)
    envisaged = Run.envisage(arguments.run, study)
    for caution in cautions(study, envisaged):
        print(caution, file=sys.stderr)
    if arguments.dry_run:
        return dry_run(envisaged, profile, stages)
    require_slurm()
    submitted = submit(arguments.run, study, profile, stages, show=not arguments.json)
    if arguments.json:
        print(json.dumps([{"stage": one.stage, "job": one.job, "shards": len(one.shards)} for one in submitted]))
    elif not submitted:
        print(f"nothing to hand in: all is done or queued. modpo status {arguments.run}")
    else:
        print(f"watch with: modpo status {arguments.run} --watch")
    return 0


def chosen_stages(until: str | None, only: str | None) -> tuple[Stage, ...]:
    """The stages that the command line asks for, in the order in which work flows."""
    from modpo_hpc.pipeline import STAGES, stage_named, with_needs

    if only:
        return (stage_named(only),)
    return with_needs(until) if until else STAGES


def submit(
    folder: str | Path, study: Study, profile: Profile, stages: Sequence[Stage], show: bool = True
) -> list[Submission]:
    """Hand in what is missing of ``stages`` and neither done nor queued."""
    from modpo_hpc.launch.repair import cancel, missing_work, plan_repair
    from modpo_hpc.launch.slurm import Submitter, check_with_slurm
    from modpo_hpc.launch.state import take_snapshot
    from modpo_hpc.launch.submissions import keep_profile, locked
    from modpo_hpc.run import Run

    envisaged = take_snapshot(Run.envisage(folder, study))
    work = plan_repair(envisaged, missing_work(envisaged, stages)).work
    check_with_slurm(envisaged.run, profile, work)
    the_run = Run.create(folder, study)
    with locked(the_run):
        keep_profile(the_run, profile)
        snapshot = take_snapshot(the_run)
        repair = plan_repair(snapshot, missing_work(snapshot, stages))
        cancel(snapshot, repair.cancel, "graph")
        submitter = Submitter(the_run, profile, render_submission if show else lambda _: None)
        return submitter.submit(repair.work, snapshot.sizes())


def dry_run(the_run: Run, profile: Profile, stages: Sequence[Stage]) -> int:
    """Print what would be handed in."""
    from modpo_hpc.launch.cluster import max_array_size
    from modpo_hpc.launch.commands import SlurmError
    from modpo_hpc.launch.repair import missing_work, plan_repair
    from modpo_hpc.launch.slurm import sbatch_header
    from modpo_hpc.launch.state import take_snapshot

    size = profile.limits.array_size
    with suppress(SlurmError):
        size = min(size, max_array_size())
    snapshot = take_snapshot(the_run)
    for work in plan_repair(snapshot, missing_work(snapshot, stages)).work:
        for number, text in enumerate(sbatch_header(the_run, profile, work, size), 1):
            print(f"# {work.stage}: {len(work.shards)} shards, sbatch file {number}\n{text}")
    return 0


def render_submission(submission: Submission) -> None:
    """One line for one sbatch."""
    count = len(submission.shards)
    parents = sorted({job.partition("_")[0] for job in submission.after}, key=int)
    waits = f"  after {', '.join(parents)}" if parents else ""
    print(f"{submission.stage:<14} job {submission.job:<8} {count} shard{'s' if count > 1 else ''}{waits}", flush=True)
