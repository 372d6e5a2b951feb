"""``modpo submit``: the whole graph of a study, or what is missing of it, into the queue of a Slurm cluster."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from modpo_hpc.cli.arguments import add_flag, add_json, add_reuse, add_study, quoted
from modpo_hpc.cli.run import check, chosen_stages
from modpo_hpc.launch.batch_scripts import ResourceChange, sbatch_header
from modpo_hpc.launch.cluster import ask_facts
from modpo_hpc.launch.commands import SlurmError, require_slurm
from modpo_hpc.launch.following import follow_study
from modpo_hpc.launch.profile import Profile, load_profile
from modpo_hpc.launch.repair import Repair, missing_work, plan_repair
from modpo_hpc.launch.slurm import check_with_slurm
from modpo_hpc.launch.state import Snapshot, take_snapshot
from modpo_hpc.launch.submissions import Submission, record_goal
from modpo_hpc.launch.transaction import Outcome, apply, transaction
from modpo_hpc.pipeline import Stage
from modpo_hpc.run import Run
from modpo_hpc.study import Study, load_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument("--run", required=True, metavar="DIR", help="run directory, on a filesystem that all nodes see")
    parser.add_argument(
        "--profile", required=True, metavar="P", help="cluster profile: a file, or a name of slurm/profiles"
    )
    add_reuse(parser)
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--until", metavar="STAGE", help="this stage and what it needs")
    some.add_argument("--only", metavar="STAGE", help="this stage alone; what it needs must be done or queued")
    add_flag(parser, "--dry-run", "print the sbatch files; hand in nothing")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    study, profile = load_study(arguments.study, arguments.overrides), load_profile(arguments.profile)
    stages = chosen_stages(arguments.until, arguments.only)
    check(study, arguments.run, accounts_to=sys.stderr)
    if arguments.dry_run:
        snapshot = take_snapshot(Run.envisage(arguments.run, study))
        print_plan(snapshot, profile, plan_repair(snapshot, missing_work(snapshot, stages)))
        return 0
    require_slurm()
    outcome = submit(arguments.run, study, profile, stages, show=not arguments.json, reuse=arguments.reuse)
    if arguments.json:
        rows = [{"stage": one.stage, "job": one.job, "shards": len(one.shards)} for one in outcome.submitted]
        print(json.dumps(rows))
    elif not outcome.submitted and not outcome.held_back:
        print(f"nothing to hand in: all is done or queued. modpo status {quoted(arguments.run)}")
    else:
        print(f"watch with: modpo status {quoted(arguments.run)} --watch")
    return told_what_is_held_back(outcome, arguments.run)


def submit(
    folder: str | Path,
    study: Study,
    profile: Profile,
    stages: Sequence[Stage],
    show: bool = True,
    reuse: Sequence[str] = (),
) -> Outcome:
    """Hand in what is missing of ``stages`` and neither done nor queued."""
    envisaged = take_snapshot(Run.envisage(folder, study))
    work = plan_repair(envisaged, missing_work(envisaged, stages)).work
    check_with_slurm(envisaged.run, profile, work)
    with transaction(follow_study(folder, study, reuse)) as snapshot:
        planned = plan_repair(snapshot, missing_work(snapshot, stages))
        asked = {*snapshot.journal.goal, *(stage.name for stage in stages)}
        if asked != set(snapshot.journal.goal):
            record_goal(snapshot.run, sorted(asked))
        return apply(snapshot, profile, planned, on_submit=render_submission if show else lambda _: None)


def told_what_is_held_back(outcome: Outcome, folder: str | Path) -> int:
    """Say what the cluster did not take, and what to do; the exit code of the command."""
    if not outcome.held_back:
        return 0
    print(
        f"{outcome.held_back}. What was handed in stays. The rest goes in as jobs end: modpo tend {quoted(folder)}, "
        "or the same command again.",
        file=sys.stderr,
    )
    return 3


def print_plan(
    snapshot: Snapshot, profile: Profile, planned: Repair, changes: Mapping[str, ResourceChange] | None = None
) -> None:
    """The sbatch files of what would be handed in, and the jobs that would then be taken out."""
    size = profile.limits.array_size
    with suppress(SlurmError):
        size = min(size, ask_facts().max_array_size)
    for work in planned.work:
        change, learned = (changes or {}).get(work.stage), snapshot.journal.learned.get(work.stage)
        for number, text in enumerate(sbatch_header(snapshot.run, profile, work, size, change, learned), 1):
            print(f"# {work.stage}: {len(work.shards)} shards, sbatch file {number}\n{text}")
    if planned.cancel:
        print(f"# then out of the queue, replaced by these: {' '.join(planned.cancel)}")


def render_submission(submission: Submission) -> None:
    """One line for one sbatch."""
    parents = sorted({job.partition("_")[0] for job in submission.after}, key=int)
    jobs = f" in {submission.elements} jobs" if submission.pack > 1 else ""
    waits = f"  after {', '.join(parents)}" if parents else ""
    shards = f"{len(submission.shards)} shard{'s' * (len(submission.shards) > 1)}"
    print(f"{submission.stage:<14} job {submission.job:<8} {shards}{jobs}{waits}", flush=True)
