"""``modpo tend``: stay with a run until it is done: hand in what there is room for, mend what can be mended."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import signal
import sys
import time

from modpo_hpc.cli.arguments import add_flag, quoted
from modpo_hpc.cli.progress import say_stamped
from modpo_hpc.cli.submit import print_plan, render_submission
from modpo_hpc.core.atomic import write_text
from modpo_hpc.errors import InputError
from modpo_hpc.launch import cluster, commands, squeue
from modpo_hpc.launch.commands import SlurmSilent, require_slurm
from modpo_hpc.launch.notices import post, send_mail
from modpo_hpc.launch.profile import Profile, load_profile
from modpo_hpc.launch.slurm import comment_prefix
from modpo_hpc.launch.state import take_snapshot
from modpo_hpc.launch.submissions import FOLDER, kept_profile, locked
from modpo_hpc.launch.tend import STILL_FULL, Round, plan_round, tend_once
from modpo_hpc.run import Run

LAST_STATE, LOCK = "tend.json", "tend.lock"
AWAY = "Slurm is away"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="DIR", help="run directory that was submitted")
    how = parser.add_mutually_exclusive_group()
    add_flag(how, "--once", "one round, for a line in cron")
    add_flag(how, "--slurm", "hand in a small job that tends, and end")
    add_flag(how, "--dry-run", "say what a round would do; change nothing")
    parser.add_argument("--every", type=int, default=60, metavar="SECONDS", help="between rounds (default: 60)")
    parser.add_argument("--profile", metavar="P", help="another cluster profile than that of the last submit")
    parser.add_argument("--mail", metavar="ADDRESS", help="tell this address of a change of state")
    parser.epilog = "MODPO_WEBHOOK in the environment: a URL that gets the same as JSON."


def run(arguments: argparse.Namespace) -> int:
    the_run = Run.open(arguments.run_dir)
    profile = load_profile(arguments.profile) if arguments.profile else kept_profile(the_run)
    if profile is None:
        raise InputError(
            "this run was never submitted", file=the_run.root, remedy="Start with: modpo submit STUDY --run DIR"
        )
    if arguments.slurm:
        return hand_in_itself(the_run, profile, arguments)
    if arguments.dry_run:
        return dry_run(the_run, profile)
    return tend(the_run, profile, arguments)


def tend(the_run: Run, profile: Profile, arguments: argparse.Namespace) -> int:
    """Round after round until the run is complete or waits for a person; exit codes 0, 1, and 3 where it goes on."""
    stopped: list[int] = []
    if os.environ.get("SLURM_JOB_ID"):
        signal.signal(signal.SIGUSR1, lambda number, _: stopped.append(number))
    with open(the_run.root / FOLDER / LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another modpo tend is with {the_run.root}")
            return 0
        full_at: int | None = None
        while True:
            try:
                found = tend_once(the_run, profile, render_submission, full_at)
                full_at = found.in_queue if found.outcome.held_back else None
                say(found)
                state = found.state
                tell(the_run, state, words_of(the_run, found), arguments.mail)
            except SlurmSilent as error:
                state = "going on"
                say_stamped(f"{AWAY}: {error}", stderr=True)
                tell(the_run, AWAY, f"{the_run.root.name}: {AWAY}; it is asked again", arguments.mail)
            except InputError as error:
                tell(the_run, "needs you", f"{the_run.root.name}: {error}", arguments.mail)
                raise
            if state != "going on":
                return 1 if state == "needs you" else 0
            if arguments.once:
                return 3
            if _pause(arguments.every, stopped):
                return requeue_itself()


def _pause(seconds: float, stopped: list[int]) -> bool:
    for _ in range(max(1, round(seconds))):
        if stopped:
            break
        time.sleep(1)
    return bool(stopped)


def say(found: Round) -> None:
    """One line a remedy, and one for what could not be handed in yet."""
    for stage, change in found.remedies.items():
        mine = [one for one in found.mended if one.state.stage == stage]
        causes = ", ".join(sorted({one.cause for one in mine}))
        asks = (
            f"{change.memory_gb:g} GB" if change.memory_gb else "",
            f"{change.minutes} min" if change.minutes else "",
            f"not on {', '.join(change.exclude)}" if change.exclude else "",
        )
        more = ", ".join(filter(None, asks))
        say_stamped(f"{stage}: {len(mine)} again ({causes}){': ' * bool(more)}{more}")
    if found.released:
        say_stamped(f"released: {', '.join(found.released)}, which a node could not start")
    if found.outcome.held_back not in ("", STILL_FULL):
        say_stamped(found.outcome.held_back)


def words_of(the_run: Run, found: Round) -> str:
    """The state of the run in a sentence or two, for a mail."""
    name = the_run.root.name
    if found.state == "nothing asked for":
        return f"{name}: nothing is asked for, since the run was cancelled as a whole. modpo submit goes on."
    lines = [f"{name}: {found.state}, {found.done} of {found.total} shards done."]
    lines += [f"{one.state.stage} {one.state.shard}: {one.cause}: {one.message}" for one in found.left[:5]]
    if found.held:
        held = ", ".join(found.held[:5])
        lines.append(f"Held, since nodes could not start them: {held}. scontrol release JOB goes on")
    if found.left:
        lines.append(f"Why, and what to do: modpo triage {the_run.quoted}")
    if found.state == "complete":
        lines.append(f"modpo results {the_run.quoted}")
    return "\n".join(lines)


def tell(the_run: Run, state: str, message: str, address: str | None) -> None:
    """Tell the user of ``state``, if it is another than the last one; what cannot be delivered stops nothing."""
    path = the_run.root / FOLDER / LAST_STATE
    try:
        last = json.loads(path.read_bytes())["state"]
    except (FileNotFoundError, ValueError, KeyError):
        last = "going on"
    if state == last:
        return
    write_text(path, json.dumps({"state": state, "at": time.time()}))
    say_stamped(message)
    mailed = send_mail(address, f"modpo {the_run.root.name}: {state}", message) if address else None
    posted = post(os.environ.get("MODPO_WEBHOOK"), {"run": str(the_run.root), "state": state, "text": message})
    for problem in filter(None, (mailed, posted)):
        print(problem, file=sys.stderr, flush=True)


def dry_run(the_run: Run, profile: Profile) -> int:
    """What a round would do."""
    require_slurm()
    snapshot = take_snapshot(the_run)
    if snapshot.silent:
        raise SlurmSilent(snapshot.silent)
    found, planned = plan_round(snapshot, cluster.partitions(), profile)
    say(found)
    print(words_of(the_run, found))
    print_plan(snapshot, profile, planned, found.remedies)
    return 0


def hand_in_itself(the_run: Run, profile: Profile, arguments: argparse.Namespace) -> int:
    """A job that tends: one CPU, requeued by itself at its time limit. A second one is not handed in."""
    commands.require_slurm()
    comment = f"{comment_prefix(the_run)}tend"
    with locked(the_run):
        if there := [line for line in squeue.ask_queue_of_user() if line.comment == comment and line.alive]:
            print(f"job {there[0].job} tends {the_run.root} already")
            return 0
        limit = cluster.partitions().get(profile.partition or "", 1440.0)
        command = [profile.python or shlex.quote(sys.executable), "-m modpo_hpc tend", the_run.quoted]
        command += ["--every", str(arguments.every), *(["--mail", quoted(arguments.mail)] if arguments.mail else [])]
        modules = [f"module load {shlex.quote(one)}" for one in profile.modules]
        script = "\n".join(["#!/bin/bash", *modules, *profile.setup, f"exec {' '.join(command)}"])
        wanted = {name: getattr(profile, name) for name in ("partition", "account", "qos", "wckey")}
        text = commands.call(
            "sbatch", "--parsable", f"--comment={comment}", f"--job-name=tend.{the_run.root.name}", "--requeue",
            "--ntasks=1", "--cpus-per-task=1", "--mem=1G", f"--time={int(min(limit, 1440.0))}", "--signal=B:USR1@120",
            "--open-mode=append", f"--output={the_run.logs / 'tend.out'}",
            *(f"--{name}={value}" for name, value in wanted.items() if value),
            text_in=script, wait=commands.WAIT_SECONDS,
        )  # fmt: skip
    print(f"job {text.strip().partition(';')[0]} tends {the_run.root}; its log: {the_run.logs / 'tend.out'}")
    return 0


def requeue_itself() -> int:
    """Back into the queue: the time limit of this job is near."""
    commands.call("scontrol", "requeue", os.environ["SLURM_JOB_ID"], wait=60)
    time.sleep(60)  # Slurm ends this job; to leave before would look like a failure
    return 3
