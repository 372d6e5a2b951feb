"""``modpo rerun``: exactly these shards again, on Slurm, on this machine, or here in the foreground."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence

from modpo_hpc.cli.arguments import add_flag, add_run_dir, require_known
from modpo_hpc.cli.run import carry_out
from modpo_hpc.cli.submit import print_plan, render_submission, told_what_is_held_back
from modpo_hpc.core.markers import IMPORTED, read_marker
from modpo_hpc.errors import InputError
from modpo_hpc.launch.attempts import claim_attempt, recorded
from modpo_hpc.launch.batch_scripts import ResourceChange
from modpo_hpc.launch.commands import require_slurm
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.launch.profile import Profile, load_profile
from modpo_hpc.launch.repair import Repair, check_not_alive, plan_repair
from modpo_hpc.launch.slurm import check_with_slurm
from modpo_hpc.launch.state import Snapshot, take_snapshot
from modpo_hpc.launch.submissions import kept_profile
from modpo_hpc.launch.transaction import apply, transaction
from modpo_hpc.launch.triage import CAUSES, find_failures, suspects
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.run import Run

Chosen = dict[str, list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="stage, for instance responses; all if not given")
    parser.add_argument("shards", nargs="*", metavar="SHARD", help="exactly these, done or not")
    which = parser.add_mutually_exclusive_group()
    add_flag(which, "--failed", "every shard that has failed, and what waits for ever behind one")
    which.add_argument(
        "--class", dest="cause", metavar="CLASS", help="failed shards of one class of modpo triage: oom, time, ..."
    )
    add_flag(which, "--stale", "shards whose inputs have changed since they were made")
    parser.add_argument("--mem", metavar="x1.5|GB", help="memory of the jobs: a factor, or gigabytes")
    parser.add_argument("--time", metavar="x2|MIN", help="time limit of the jobs: a factor, or minutes")
    add_flag(parser, "--exclude-suspects", "keep away from nodes that fail what they get")
    add_flag(parser, "--dry-run", "print what would be done; change nothing")
    add_flag(parser, "--here", "in this process, in the foreground, for a debugger")
    parser.add_argument("--profile", metavar="P", help="another cluster profile than that of the last submit")
    add_flag(parser, "--local", "on this machine, though the run was submitted to Slurm")
    parser.add_argument("--jobs", type=int, metavar="N", help="CPUs to use at once, on this machine")


def run(arguments: argparse.Namespace) -> int:
    the_run = Run.open(arguments.run_dir)
    profile = load_profile(arguments.profile) if arguments.profile else kept_profile(the_run)
    if profile is not None and not (arguments.here or arguments.local):
        return on_slurm(the_run, profile, arguments)
    chosen = _choose(take_snapshot(the_run), arguments)
    if not any(chosen.values()):
        return _nothing(arguments)
    if arguments.dry_run:
        print("\n".join(f"{stage}: {' '.join(shards)}" for stage, shards in chosen.items()))
        return 0
    if arguments.here:
        return here(the_run, chosen, again=bool(arguments.shards))
    _refuse_slurm_options(arguments)
    return on_this_machine(the_run, chosen, arguments.jobs, again=bool(arguments.shards))


def _nothing(arguments: argparse.Namespace) -> int:
    print(f"nothing to rerun: no shard{f' of {arguments.stage}' if arguments.stage else ''} is of that kind")
    return 0


def _choose(snapshot: Snapshot, arguments: argparse.Namespace) -> Chosen:
    """Stage -> the shards that the command line means.

    Raises:
        InputError: no such stage, shard or class; or nothing says which shards.
    """
    stage, shards, failed, stale = arguments.stage, arguments.shards, arguments.failed, arguments.stale
    if stage:
        require_known(stage_named(stage).name, shards, list(snapshot.shards[stage]))
    if shards and stage:
        if imported := [shard for shard in shards if _is_imported(snapshot, stage, shard)]:
            raise InputError(
                "this shard was imported, and making it would replace what was brought in",
                field="SHARD",
                value=imported[0],
                remedy="Start another run to make it here.",
            )
        return {stage: list(shards)}
    if cause := arguments.cause:
        if cause not in CAUSES:
            raise InputError(
                "there is no such class", field="--class", value=cause, remedy=f"Classes: {', '.join(CAUSES)}."
            )
        found: Chosen = {}
        for failure in find_failures(snapshot, stage):
            if failure.cause == cause:
                found.setdefault(failure.state.stage, []).append(failure.state.shard)
        return found
    if failed or stale or stage:
        states = {"failed"} if failed else {"stale"} if stale else {"failed", "stale", "todo", "cancelled"}
        names = [stage] if stage else list(snapshot.shards)
        return {
            name: mine
            for name in names
            if (mine := [shard for shard, one in snapshot.shards[name].items() if one.state in states])
        }
    raise InputError(
        "nothing says which shards to make again",
        field="STAGE",
        remedy="Name a stage and shards, or give --failed, --class CLASS or --stale.",
    )


def _is_imported(snapshot: Snapshot, stage: str, shard: str) -> bool:
    marker = read_marker(snapshot.run.folder(stage), shard)
    return marker is not None and marker.inputs == IMPORTED


def here(the_run: Run, chosen: Chosen, again: bool) -> int:
    """One shard after the other in this process; an exception goes to the terminal with its whole traceback."""
    for stage, shards in chosen.items():
        for shard in shards:
            the_run.inputs(stage, shard)
            number, log = claim_attempt(the_run.logs, stage, shard)
            log.write_text(f"ran in the foreground of a terminal, process {os.getpid()}; nothing was kept here\n")
            with recorded(log, stage, shard, number, redirect=False):
                run_shard(str(the_run.root), stage, shard, again)
    return 0


def on_this_machine(the_run: Run, chosen: Chosen, jobs: int | None, again: bool) -> int:
    """The shards by the local executor."""
    stages = tuple(stage for stage in STAGES if stage.name in chosen)
    inventory = the_run.inventory()
    for stage in stages:
        for shard in chosen[stage.name]:
            made_from = inventory.made_from(stage.name, shard)
            if not set(made_from.lacking) & set(chosen):
                the_run.refuse_lacking(stage.name, shard, made_from)
    wanted = [(stage, shard) for stage, shards in chosen.items() for shard in shards]
    return carry_out(the_run, stages, jobs, only=wanted, again=again)


def on_slurm(the_run: Run, profile: Profile, arguments: argparse.Namespace) -> int:
    """The shards as Slurm jobs, and anew whatever waits for what had failed."""
    require_slurm()
    snapshot = take_snapshot(the_run)
    planned, changes = _plan(snapshot, arguments)  # a call that cannot be meant writes nothing
    if arguments.dry_run:
        print_plan(snapshot, profile, planned, changes)
        return 0
    with transaction(the_run) as snapshot:
        planned, changes = _plan(snapshot, arguments)
        if not planned.work and not planned.cancel:
            return _nothing(arguments)
        check_with_slurm(the_run, profile, planned.work, changes)
        outcome = apply(snapshot, profile, planned, changes, render_submission)
    if outcome.cancelled:
        print(f"taken out of the queue, replaced by these: {len(outcome.cancelled)} jobs")
    return told_what_is_held_back(outcome, the_run.root)


def _plan(snapshot: Snapshot, arguments: argparse.Namespace) -> tuple[Repair, dict[str, ResourceChange]]:
    """What the command line asks for, from the queue as it is: what to hand in, and with which changes."""
    chosen = _choose(snapshot, arguments)
    for stage, shards in chosen.items():
        check_not_alive(snapshot, stage, shards)
    again = {
        stage: done
        for stage, shards in chosen.items()
        if (done := [shard for shard in shards if snapshot.shards[stage][shard].state == "done"])
    }
    planned = plan_repair(snapshot, chosen, again) if any(chosen.values()) or arguments.failed else Repair((), ())
    for work in planned.work:
        if work.after_ended:
            print(
                f"{work.stage}: the present result is read by {len(work.after_ended)} jobs in the queue; it is made "
                "anew when they have ended, and stays until then"
            )
    return planned, {stage: _change(snapshot, stage, shards, arguments) for stage, shards in chosen.items()}


def parse_change(text: str | None, field: str, last: Sequence[float]) -> tuple[float, float | None]:
    """A factor and a number: of ``x1.5`` that times the largest of ``last``, of ``24``, ``24GB`` or ``90min`` this.

    Raises:
        InputError: neither.
    """
    if not text:
        return 1.0, None
    found = re.fullmatch(r"(x?)(\d+(?:\.\d+)?)\s*(?:GB?|min|m)?", text, re.IGNORECASE)
    if found is None or float(found[2]) <= 0:
        raise InputError(
            "this is neither a factor nor a number", field=field, value=text, remedy="Write x1.5, or a number."
        )
    given = float(found[2])
    if not found[1]:
        return 1.0, given
    return given, given * max(last) if last else None


def _change(snapshot: Snapshot, stage: str, shards: Sequence[str], arguments: argparse.Namespace) -> ResourceChange:
    """What the options ask, as absolute numbers: a factor counts from the largest that these shards had last."""
    last = [submission for shard, (submission, _) in snapshot.journal.latest(stage).items() if shard in shards]
    memory, memory_gb = parse_change(arguments.mem, "--mem", [one.memory_gb for one in last])
    time, minutes = parse_change(arguments.time, "--time", [one.minutes for one in last])
    exclude = tuple(suspects(snapshot, find_failures(snapshot))) if arguments.exclude_suspects else ()
    return ResourceChange(memory, time, memory_gb, round(minutes) if minutes else None, exclude)


def _refuse_slurm_options(arguments: argparse.Namespace) -> None:
    for field in ("mem", "time", "exclude_suspects"):
        if getattr(arguments, field):
            raise InputError(
                "this says how Slurm jobs are handed in, but the shards are to run on this machine",
                field=f"--{field.replace('_', '-')}",
                remedy="Give --profile to use Slurm, or leave the option out.",
            )
