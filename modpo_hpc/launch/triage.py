"""Why shards failed: their root cause, told from Slurm's word, the attempt's record and the last lines of the logs."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modpo_hpc.launch.attempts import ENDED_BY_SLURM, NO_ROOM_CODE, Attempt, attempts_at, log_of, slurm_log_of
from modpo_hpc.launch.batch_scripts import BEGINS
from modpo_hpc.launch.commands import PASSING
from modpo_hpc.launch.sacct import JobRecord, JobStep, ask_steps
from modpo_hpc.launch.squeue import QueueLine
from modpo_hpc.launch.state import ShardState, Snapshot

Cause = Literal[
    "oom", "oom-gpu", "time", "node", "preempted", "input", "disk", "api", "slurm", "environment", "code", "killed",
    "cancelled", "lost",
]  # fmt: skip
CAUSES: dict[Cause, str] = {
    "oom": "out of host memory",
    "oom-gpu": "out of GPU memory",
    "time": "time limit",
    "node": "node failure",
    "preempted": "preempted too often, or before it could listen",
    "input": "bad input",
    "disk": "disk full or over quota",
    "api": "API",
    "slurm": "Slurm ended the job, or never began its step",
    "environment": "never came to the shard",
    "code": "error in the code",
    "killed": "killed from outside",
    "cancelled": "cancelled",
    "lost": "no trace of its end",
}
REMEDIES: dict[Cause, str] = {
    "oom": "Give each shard more memory.",
    "oom-gpu": "Lower the batch size of this stage in a new study, or give it a GPU with more memory in the profile.",
    "time": "Give more time; what was done is kept and resumed.",
    "node": "Keep away from the nodes that fail.",
    "preempted": "Resume, in a partition that is not preempted if there is one.",
    "input": "Mend the input first; the same shard would fail again.",
    "disk": "Make room (quota, df), then go on.",
    "api": "Check key, quota and endpoint; no answer that was paid for is lost.",
    "slurm": "The job was ending (preempted, requeued, its node lost) or the controller was away when srun asked for "
    "the step: again.",
    "environment": "The job ended before the shard began: look at modules, setup and python of the profile with modpo "
    "doctor --profile, and whether the run or its logs were moved.",
    "code": "See it fail here, mend it, then rerun the class.",
    "killed": "Something sent SIGKILL; if it was memory, add --mem x1.5.",
    "cancelled": "Cancelled by a person or by Slurm; go on when you like.",
    "lost": "Slurm has forgotten the job; its log may tell more.",
}
COMMANDS: dict[Cause, str] = {
    "oom": "modpo rerun {run} --class oom --mem x1.5",
    "time": "modpo rerun {run} --class time --time x2",
    "node": "modpo rerun {run} --class node --exclude-suspects",
    "input": "modpo logs {run} {stage} {shard}",
    "code": "modpo rerun {run} {stage} {shard} --here",
}
"""What mends a class where a plain rerun of it does not."""
LOG_TAIL_BYTES = 8192


# What programs, shells and Slurm say when they fail.
def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


HOST_MEMORY = _any_of(
    r"exceeded memory limit", r"oom[-_]kill", r"Out Of Memory", r"\bMemoryError\b", r"Cannot allocate"
)
GPU_MEMORY = _any_of(r"CUDA out of memory", r"OutOfMemoryError", r"CUBLAS_STATUS_ALLOC_FAILED", r"HIP out of memory")
TIME = _any_of(r"DUE TO TIME LIMIT")
NODE = _any_of(
    r"NODE FAIL",
    r"uncorrectable ECC",
    r"CUDA error: (?:unknown|hardware)",
    r"no CUDA-capable device",
    r"devices are busy or unavailable",
    r"\bXid\b",
    r"Stale file handle",
    r"Transport endpoint is not connected",
    r"Node failure on",
    r"STEPD TERMINATED ON",
)
# What srun and slurmstepd say of a node that did not start its tasks.
NOT_STARTED = _any_of(
    r"launch (?:for .+ )?failed.*(?:connection|Socket timed out|Zero Bytes|Message \w+ failure|No route to host|"
    r"Job credential (?:expired|replayed)|Invalid job credential|authentication|prolog failed|Slurmd could not|"
    r"not found on host)",
    r"Unable to (?:create step|confirm allocation) .*(?:Required node not available|authentication)",
    r"Munge (?:en|de)code failed",
    r"Failed to invoke task plugins",
)
# The second is what srun says of a task that the stop signal met before its Python could listen.
PREEMPTION = _any_of(r"DUE TO PREEMPTION", r"User defined signal [12]")
DISK = _any_of(r"No space left on device", r"Disk quota exceeded", r"\[Errno (?:28|122)\]")
API = _any_of(
    r"RateLimit|AuthenticationError|APIConnection|APIStatus|HTTPStatusError|ConnectError|ReadTimeout|insufficient_quota"
)
# One of several processes that make a shard together was killed, and the others say only that it is gone.
LOST_PEER = _any_of(r"Connection (?:closed|reset) by peer", r"remote process exited", r"Connection refused|Broken pipe")
# What srun says when the job under it was already ending, or nobody answered; never what a wrong request makes it say.
NO_STEP = _any_of(
    r"Unable to (?:create step|confirm allocation) for job \S+: .*(?:Job/step already complet|Job is no longer pending|"
    r"Job is pending execution|Job has already finished|Job is not running|Job can not be altered now|Invalid job id|"
    r"Error generating job credential|Unexpected message received|" + "|".join(map(re.escape, PASSING)) + ")",
    r"Slurm job \d+ has expired",
    r"Job allocation \d+ has been revoked",
    r"launch (?:for .+ )?failed.*Job credential revoked",
)
# What a shell, a module command and an interpreter say of a job that cannot begin.
START_UP = _any_of(
    r"cannot load modules", r"unable to locate a modulefile", r"module\(s\) are unknown", r"command not found",
    r"No such file or directory", r"ModuleNotFoundError", r"ImportError", r"Permission denied", r"no run directory",
)  # fmt: skip
TROUBLE = _any_of("error", "killed", "exception", "exceeded", "cancelled", START_UP.pattern)
TASK_KILLED = _any_of(r"task \d+: Killed")


@dataclass(frozen=True)
class Evidence:
    """What is known of the end of one shard."""

    slurm: str
    attempt: Attempt | None
    steps: tuple[JobStep, ...]
    slurm_log: str
    log: str
    exit_code: str = ""


@dataclass(frozen=True)
class Failure:
    """One failed shard and why."""

    state: ShardState
    cause: Cause
    message: str
    node: str


@dataclass(frozen=True)
class FailureGroup:
    """Failures with one cause and the same last words; numbers, paths and names are left out where they differ."""

    cause: Cause
    message: str
    failures: tuple[Failure, ...]

    @property
    def nodes(self) -> dict[str, int]:
        """Node -> number of these failures."""
        return dict(Counter(failure.node or "?" for failure in self.failures).most_common())


def find_failures(snapshot: Snapshot, stage: str | None = None) -> list[Failure]:
    """Every failed shard of the run (or of ``stage``) with its cause."""
    failed = [
        state
        for name, states in snapshot.shards.items()
        if stage in (None, name)
        for state in states.values()
        if state.state == "failed"
    ]
    jobs = [state.job for state in failed if state.job]
    by_job: dict[str, list[JobStep]] = {}
    for step in ask_steps(jobs, snapshot.journal.since) if jobs and snapshot.records is not None else ():
        by_job.setdefault(step.job, []).append(step)
    folders = {one.job: Path(one.folder) for one in snapshot.journal.submissions}
    return [_failure(snapshot, state, by_job.get(state.job or "", []), folders) for state in failed]


def classify(evidence: Evidence) -> Cause:
    """The root cause. Slurm calls a job over its memory FAILED unless it runs with cgroups, so words come first."""
    attempt, both = evidence.attempt, f"{evidence.slurm_log}\n{evidence.log}"
    error = attempt.error or "" if attempt else ""
    told = f"{evidence.slurm_log}\n{error}"
    stopped_for = attempt.cause or "" if attempt else ""
    over = any(step.max_rss_mb and step.requested_mb and step.max_rss_mb > step.requested_mb for step in evidence.steps)
    memory_step = any(step.state == "OUT_OF_MEMORY" for step in evidence.steps)
    if GPU_MEMORY.search(error):
        return "oom-gpu"
    if evidence.slurm == "OUT_OF_MEMORY" or memory_step or over or HOST_MEMORY.search(told):
        return "oom"
    if evidence.slurm in ("TIMEOUT", "DEADLINE") or stopped_for.startswith("timeout") or TIME.search(both):
        return "time"
    if evidence.slurm in ("NODE_FAIL", "BOOT_FAIL") or NODE.search(told):
        return "node"
    if evidence.slurm == "PREEMPTED" or stopped_for.startswith("preemption") or PREEMPTION.search(both):
        return "preempted"
    if evidence.slurm == "CANCELLED" or stopped_for == "cancelled":
        return "cancelled"
    if stopped_for == ENDED_BY_SLURM:  # without Slurm's own word it may have been a person
        return "slurm" if evidence.slurm else "cancelled"
    if DISK.search(told) or evidence.exit_code.startswith(f"{NO_ROOM_CODE}:"):
        return "disk"
    if attempt is not None and attempt.outcome in ("bad input", "incomplete"):
        return "input"
    if API.search(error):
        return "api"
    if LOST_PEER.search(error) and TASK_KILLED.search(evidence.slurm_log):
        return "killed"
    if error:
        return "code"
    if GPU_MEMORY.search(both):
        return "oom-gpu"
    if attempt is None or attempt.ended is None:
        if NOT_STARTED.search(evidence.slurm_log):
            return "node"
        if NO_STEP.search(evidence.slurm_log):
            return "slurm"
    if attempt is not None and attempt.ended is None:
        return "killed"
    if attempt is None and (evidence.slurm == "FAILED" or START_UP.search(evidence.slurm_log)):
        return "environment"
    return "code" if evidence.slurm == "FAILED" else "lost"


def group(failures: Iterable[Failure]) -> list[FailureGroup]:
    """Failures by cause and last words, the largest group first."""
    found: dict[tuple[Cause, str], list[Failure]] = {}
    for failure in failures:
        found.setdefault((failure.cause, normalise(failure.message)), []).append(failure)
    groups = []
    for (cause, alike), members in found.items():
        spoken = {failure.message for failure in members}
        groups.append(FailureGroup(cause, spoken.pop() if len(spoken) == 1 else alike, tuple(members)))
    return sorted(groups, key=lambda one: -len(one.failures))


def normalise(message: str) -> str:
    """``message`` without what differs from shard to shard: numbers, addresses, paths and quoted names."""
    message = re.sub(r"(?<![\w.])/[^\s'\",:)]+", "<path>", message)
    message = re.sub(r"'[^']*'|\"[^\"]*\"", "<name>", message)
    message = re.sub(r"0x[0-9a-fA-F]+", "<n>", message)
    return re.sub(r"\d+(?:\.\d+)?", "<n>", message)


def suspects(snapshot: Snapshot, failures: Sequence[Failure]) -> list[str]:
    """Nodes to keep away from: those that are down, and those on which two or more different shards failed and none
    has ended well since the first of them, while others did elsewhere since then."""
    failed: dict[str, set[tuple[str, str]]] = {}
    since: dict[str, float] = {}
    for failure in failures:
        if failure.node and failure.cause in ("node", "code", "killed", "oom-gpu", "environment"):
            failed.setdefault(failure.node, set()).add((failure.state.stage, failure.state.shard))
            since[failure.node] = min(since.get(failure.node, math.inf), failure.state.when or 0.0)
    well: dict[str, float] = {}
    ended: list[JobRecord | QueueLine] = [record for records in (snapshot.records or {}).values() for record in records]
    for one in [*ended, *snapshot.queue.values()]:
        if one.state == "COMPLETED":
            well[one.nodes] = max(well.get(one.nodes, 0.0), one.end or 0.0)
    down = {failure.node for failure in failures if failure.state.slurm in ("NODE_FAIL", "BOOT_FAIL") and failure.node}
    black_holes = {
        node
        for node, shards in failed.items()
        if len(shards) >= 2
        and well.get(node, -1.0) < since[node]
        and any(end >= since[node] for other, end in well.items() if other != node)
    }
    return sorted(black_holes | down)


def remedy(group: FailureGroup, run: object) -> tuple[str, str]:
    """What to do about ``group`` in one line, and the command that does it."""
    first = group.failures[0].state
    words = {"run": str(run), "stage": first.stage, "shard": first.shard}
    command = COMMANDS.get(group.cause, f"modpo rerun {{run}} --class {group.cause}")
    return REMEDIES[group.cause], command.format(**{key: shlex.quote(word) for key, word in words.items()})


def _failure(snapshot: Snapshot, state: ShardState, steps: Sequence[JobStep], folders: Mapping[str, Path]) -> Failure:
    attempts = attempts_at(snapshot.run.logs, state.stage, state.shard)
    attempt = next((one for one in reversed(attempts) if one.job == state.job), None)
    folder = folders.get((state.job or "").partition("_")[0])
    # Slurm writes on where an earlier life of a requeued job has ended; how that ended is not why this one failed.
    slurm_log = _end_of(slurm_log_of(folder, state.job)).rpartition(BEGINS)[2] if folder and state.job else ""
    log = _end_of(log_of(snapshot.run.logs, attempt)) if attempt else ""
    exit_code = max((one.exit_code for one in snapshot.records_of(state.job)), default="")
    cause = classify(Evidence(state.slurm, attempt, tuple(steps), slurm_log, log, exit_code))
    message = (
        state.note
        or (attempt and attempt.error)
        or (cause == "oom" and _last_line(HOST_MEMORY, slurm_log))
        or (attempt is None and _last_line(START_UP, slurm_log))
        or _last_line(TROUBLE, log, slurm_log)
        or state.slurm
    )
    return Failure(state, cause, message, state.node or (attempt.node if attempt else ""))


def _last_line(pattern: re.Pattern[str], *texts: str) -> str:
    """The last line with ``pattern``, from the first of ``texts`` that has one."""
    for text in texts:
        for line in reversed(text.splitlines()):
            if pattern.search(line):
                return line.rpartition(" | ")[2].strip()
    return ""


def _end_of(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - LOG_TAIL_BYTES))
            return stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
