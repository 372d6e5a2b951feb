"""What runs in a Slurm job: one shard, its log, and the decision whether to go back into the queue.

submitit pickles a reference to :func:`run_shard_in_job` and three strings. Its own signal handler never decides
anything: it would cut a batch in two, take an early signal of a timeout for a preemption and forget how often.
"""

from __future__ import annotations

import os
import sys
import time
from typing import NoReturn

from modpo_hpc.errors import Interrupted, ModpoError
from modpo_hpc.launch import cluster, commands, fields
from modpo_hpc.launch.attempts import Attempt, attempts_at, claim_attempt, recorded, slurm_job
from modpo_hpc.launch.profile import EARLY_SIGNAL_SECONDS
from modpo_hpc.run import Run

SECONDS_FOR_SLURM_TO_KILL = 45
SLACK_SECONDS = 20


class Requeued(Interrupted):
    """The shard was stopped; ``cause`` says why, the message what becomes of it."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def run_shard_in_job(run_dir: str, stage: str, shard: str) -> None:
    """Make one shard in this Slurm job. Ends the process with the exit code of the error, if there is one."""
    from modpo_hpc.launch.entry import rank_in_job, run_shard

    run = Run.open(run_dir)
    if rank_in_job():
        # Its output stays in Slurm's own log of this task; the first rank keeps the books and asks to be requeued.
        try:
            run_shard(run_dir, stage, shard)
        except Interrupted:
            # To leave now would have srun kill the first rank before it has asked.
            _wait_for_the_end()
        return
    slurm_output = os.dup(2)
    number, log = claim_attempt(run.logs, stage, shard)
    try:
        with recorded(log, stage, shard, number):
            _run(run, stage, shard)
    except BaseException as error:
        os.write(slurm_output, f"{stage} {shard}: {type(error).__name__}; see {log}\n".encode())
        if isinstance(error, Requeued) and error.cause in ("timeout", "preemption"):
            _wait_for_the_end()
        sys.exit(error.exit_code if isinstance(error, ModpoError) else 1)


def _run(run: Run, stage: str, shard: str) -> None:
    from modpo_hpc.launch.entry import run_shard

    try:
        run_shard(str(run.root), stage, shard)
    except Interrupted as error:
        raise back_to_the_queue(run, stage, shard) from error


def back_to_the_queue(run: Run, stage: str, shard: str) -> Requeued:
    """Requeue this job if it was preempted or reached its time limit, and not too often; says what was done."""
    job = os.environ["SLURM_JOB_ID"]
    facts = cluster.ask_job(job)
    cause = why_stopped(facts, time.time(), int(os.environ.get("MODPO_SIGNAL_SECONDS", "120")))
    if cause == "cancelled":
        return Requeued(cause, "cancelled; what is done is kept, a rerun resumes here")
    bound = int(os.environ.get("MODPO_TIMEOUTS" if cause == "timeout" else "MODPO_PREEMPTIONS", "3"))
    before = times_requeued(attempts_at(run.logs, stage, shard), slurm_job(), cause)
    if before >= bound:
        return Requeued(
            f"{cause}, too often",
            f"{cause} number {before + 1}, {bound} are allowed; not requeued. A rerun resumes here",
        )
    try:
        commands.call("scontrol", "requeue", job, attempts=4)
    except commands.SlurmError as error:
        return Requeued(
            f"{cause}, not requeued", f"{cause}, and the requeue was refused ({error}). A rerun resumes here"
        )
    return Requeued(cause, f"{cause} {before + 1} of {bound}: back in the queue; the next attempt resumes here")


def why_stopped(facts: dict[str, str], now: float, signal_seconds: int) -> str:
    """``"preemption"``, ``"timeout"`` or ``"cancelled"``, from what scontrol says of a job that got a signal.

    A preempted job keeps RUNNING through its grace time, and its end is moved to the end of that: so the preemption
    is looked at before the end.
    """
    if facts.get("JobState") != "RUNNING":
        return "cancelled"
    if facts.get("PreemptTime", "None") not in ("None", ""):
        return "preemption"
    end = fields.instant(facts.get("EndTime", ""))
    if end is not None and end - now <= signal_seconds + EARLY_SIGNAL_SECONDS + SLACK_SECONDS:
        return "timeout"
    return "preemption"


def times_requeued(attempts: list[Attempt], job: str | None, cause: str) -> int:
    """How often ``job`` went back into the queue for ``cause``."""
    return sum(one.job == job and one.cause == cause for one in attempts)


def _wait_for_the_end() -> NoReturn:
    """Slurm ends a requeued job; to leave before would look like a failure."""
    time.sleep(SECONDS_FOR_SLURM_TO_KILL)
    sys.exit(Interrupted.exit_code)
