"""What runs in a Slurm job: the shards of one array element, their logs, and whether to go back into the queue.

``python -m modpo_hpc.launch.task FOLDER`` reads from ``FOLDER/tasks.json`` which shards are those of its element. The
folder is written before sbatch is called, so a job of which the submitter never heard is as good as any other.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any, NoReturn

from modpo_hpc.core.markers import read_marker
from modpo_hpc.errors import Interrupted, ModpoError
from modpo_hpc.launch import cluster, commands, fields
from modpo_hpc.launch.attempts import ENDED_BY_SLURM, NO_ROOM_CODE, attempts_at, claim_attempt, recorded, slurm_job
from modpo_hpc.launch.entry import rank_in_job, run_shard
from modpo_hpc.launch.profile import EARLY_SIGNAL_SECONDS
from modpo_hpc.launch.shard_process import preloaded
from modpo_hpc.launch.submissions import NO_ROOM
from modpo_hpc.pipeline import stage_named
from modpo_hpc.resident import keep_resident, let_go
from modpo_hpc.run import Run

SECONDS_FOR_SLURM_TO_KILL = 45
PATIENCE_SECONDS = 600.0
"""How long a stopped shard asks a controller that is away: while it is, nobody ends the job."""
SLACK_SECONDS = 20
STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Requeued(Interrupted):
    """The shard was stopped; ``cause`` says why, the message what becomes of it."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def main(folder: Path) -> int:
    """Make the shards of this job's element; returns the exit code of the job."""
    stops: list[int] = []
    for number in STOPS:  # one that comes before a shard listens must not end the process as if by accident
        signal.signal(number, lambda sign, _: stops.append(sign))
    tasks = json.loads((folder / "tasks.json").read_bytes())
    if not _is_ours(folder):
        return 0
    shards: list[str] = tasks["tasks"][int(os.environ.get("SLURM_ARRAY_TASK_ID") or 0)]
    stage, again = tasks["stage"], set(tasks["again"])
    if len(shards) == 1:
        return make_shard(tasks["run"], stage, shards[0], shards[0] in again, stops)
    for module in preloaded(stage_named(stage).uses_models):
        importlib.import_module(module)
    return _make_one_by_one(tasks["run"], stage, shards, again, stops, tasks.get("resident", False))


def make_shard(run_dir: str, stage: str, shard: str, again: bool, stops: Sequence[int]) -> int:
    """Make one shard in this Slurm job; returns the exit code of the error, if there is one."""
    try:
        run = Run.open(run_dir)
    except ModpoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if rank_in_job():
        # Its output stays in Slurm's own log of this task; the first rank keeps the log and asks to be requeued.
        try:
            run_shard(run_dir, stage, shard, again)
        except Interrupted:
            # To leave now would have srun kill the first rank before it has asked.
            _wait_for_the_end()
        return 0
    slurm_output = os.dup(2)
    log: Path | str = "this log"
    try:
        number, log = claim_attempt(run.logs, stage, shard)
        with recorded(log, stage, shard, number):
            if stops:
                raise back_to_the_queue(run, stage, shard)
            # A requeued job that had made the shard anew must not make it a third time.
            again = again and not _made_here(run, stage, shard)
            try:
                run_shard(str(run.root), stage, shard, again)
            except Interrupted as error:
                raise back_to_the_queue(run, stage, shard) from error
    except BaseException as error:
        with suppress(OSError):
            os.write(slurm_output, f"{stage} {shard}: {type(error).__name__}: {error}; see {log}\n".encode())
        if isinstance(error, Requeued) and error.cause in ("timeout", "preemption"):
            _wait_for_the_end()
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return NO_ROOM_CODE
        return error.exit_code if isinstance(error, ModpoError) else 1
    return 0


def _make_one_by_one(
    run_dir: str, stage: str, shards: Sequence[str], again: set[str], stops: list[int], resident: bool
) -> int:
    """Each of ``shards`` in a process of its own, forked from this one, which has the heavy packages loaded.

    Where they are ``resident``, one process makes them all and keeps what they share, until one of them does not end
    well: the others get a new process. One that dies takes nothing with it; a stop signal goes to the one that runs,
    and no other is begun. Returns the worst exit code.
    """
    codes, left = [0], list(shards)
    while left:
        mine = left if resident else left[:1]
        ended_well = RawValue("i", 0)
        child = os.fork()
        if not child:
            code = 1
            try:
                if resident:
                    keep_resident(mine)
                code = _make_until_one_fails(run_dir, stage, mine, again, stops, ended_well)
                let_go()
            finally:
                os._exit(code)
        for number in STOPS:
            signal.signal(number, partial(_pass_on, stops, child))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        left = left[ended_well.value + (ended_well.value < len(mine)) :]
    return max(code if code >= 0 else 128 - code for code in codes)


def _make_until_one_fails(
    run_dir: str, stage: str, shards: Sequence[str], again: set[str], stops: list[int], ended_well: Any
) -> int:
    """Make ``shards`` in this process, each with its own log; ``ended_well`` counts those that did."""
    output, streams = (os.dup(1), os.dup(2)), (sys.stdout, sys.stderr)
    for shard in shards:
        if code := make_shard(run_dir, stage, shard, shard in again, stops):
            return code
        ended_well.value += 1
        sys.stdout, sys.stderr = streams
        for place, descriptor in enumerate(output, start=1):
            os.dup2(descriptor, place)
    return 0


def _pass_on(stops: list[int], process: int, number: int, _: object) -> None:
    stops.append(number)
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _is_ours(folder: Path) -> bool:
    """Whether this job is the one that makes the tasks of ``folder``: not where they were withdrawn, and not where
    Slurm took them twice."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ["SLURM_JOB_ID"]
    if (folder / "withdrawn").exists():
        print("these tasks were withdrawn; nothing to do")
        return False
    try:
        with open(folder / "job", "x") as stream:
            stream.write(array)
        return True
    except FileExistsError:
        owner = (folder / "job").read_text()
    if owner not in ("", array):
        print(f"job {owner} makes these tasks; nothing to do")
        return False
    return True


def _made_here(run: Run, stage: str, shard: str) -> bool:
    """Whether an earlier life of this job has made the shard."""
    marker = read_marker(run.folder(stage), shard)
    return marker is not None and marker.job == slurm_job()


def back_to_the_queue(run: Run, stage: str, shard: str) -> Requeued:
    """Requeue this job if it was preempted or reached its time limit, and not too often; says what was done."""
    job = os.environ["SLURM_JOB_ID"]
    try:
        facts = cluster.ask_job(job, wait=PATIENCE_SECONDS)
    except commands.SlurmSilent:
        facts = {}
    cause = why_stopped(facts, time.time(), int(os.environ.get("MODPO_SIGNAL_SECONDS", "120")))
    if cause in ("cancelled", ENDED_BY_SLURM):
        return Requeued(cause, f"{cause}; what is done is kept, a rerun resumes here")
    bound = int(os.environ.get("MODPO_TIMEOUTS" if cause == "timeout" else "MODPO_PREEMPTIONS", "3"))
    before = sum(one.job == slurm_job() and one.cause == cause for one in attempts_at(run.logs, stage, shard))
    if before >= bound:
        return Requeued(
            f"{cause}, too often",
            f"{cause} number {before + 1}, {bound} are allowed; not requeued. A rerun resumes here",
        )
    try:
        commands.call("scontrol", "requeue", job, wait=PATIENCE_SECONDS)
    except commands.SlurmError as error:
        return Requeued(
            f"{cause}, not requeued", f"{cause}, and the requeue was refused ({error}). A rerun resumes here"
        )
    return Requeued(cause, f"{cause} {before + 1} of {bound}: back in the queue; the next attempt resumes here")


def why_stopped(facts: dict[str, str], now: float, signal_seconds: int) -> str:
    """``"preemption"``, ``"timeout"``, ``"cancelled"`` or that Slurm has ended it, from what scontrol says of a job
    that got a signal.

    A preempted job keeps RUNNING through its grace time, and its end is moved to the end of that: so the preemption
    is looked at before the end.
    """
    if facts.get("JobState") == "CANCELLED":
        return "cancelled"
    if facts.get("JobState") != "RUNNING":  # COMPLETING hides whether a person, a preemption or an outage ended it
        return ENDED_BY_SLURM
    if facts.get("PreemptTime", "None") not in ("None", ""):
        return "preemption"
    end = fields.instant(facts.get("EndTime", ""))
    if end is not None and end - now <= signal_seconds + EARLY_SIGNAL_SECONDS + SLACK_SECONDS:
        return "timeout"
    return "preemption"


def _wait_for_the_end() -> NoReturn:
    """Slurm ends a requeued job; to leave before would look like a failure."""
    time.sleep(SECONDS_FOR_SLURM_TO_KILL)
    sys.exit(Interrupted.exit_code)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    for number in STOPS:  # an interpreter that ends takes its handlers away: a late signal would turn done into failed
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
