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
from modpo_hpc.launch.headers import BEGINS
from modpo_hpc.launch.patterns import (
    API,
    DISK,
    GPU_MEMORY,
    HOST_MEMORY,
    LOST_PEER,
    NO_STEP,
    NODE,
    NOT_STARTED,
    PREEMPTION,
    START_UP,
    TASK_KILLED,
    TIME,
    TROUBLE,
)
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
REMEDIES: dict[Cause, tuple[str, str]] = {
    "oom": ("Give each shard more memory.", "modpo rerun {run} --class oom --mem x1.5"),
    "oom-gpu": (
        "Lower the batch size of this stage in a new study, or give it a GPU with more memory in the profile.",
        "modpo rerun {run} --class oom-gpu",
    ),
    "time": ("Give more time; what was done is kept and resumed.", "modpo rerun {run} --class time --time x2"),
    "node": ("Keep away from the nodes that fail.", "modpo rerun {run} --class node --exclude-suspects"),
    "preempted": (
        "Resume, in a partition that is not preempted if there is one.",
        "modpo rerun {run} --class preempted",
    ),
    "input": ("Mend the input first; the same shard would fail again.", "modpo logs {run} {stage} {shard}"),
    "disk": ("Make room (quota, df), then go on.", "modpo rerun {run} --class disk"),
    "api": ("Check key, quota and endpoint; no answer that was paid for is lost.", "modpo rerun {run} --class api"),
    "slurm": (
        "The job was ending (preempted, requeued, its node lost) or the controller was away when srun asked for the "
        "step: again.",
        "modpo rerun {run} --class slurm",
    ),
    "environment": (
        "The job ended before the shard began: look at modules, setup and python of the profile with modpo doctor "
        "--profile, and whether the run or its logs were moved.",
        "modpo rerun {run} --class environment",
    ),
    "code": ("See it fail here, mend it, then rerun the class.", "modpo rerun {run} {stage} {shard} --here"),
    "killed": ("Something sent SIGKILL; if it was memory, add --mem x1.5.", "modpo rerun {run} --class killed"),
    "cancelled": ("Cancelled by a person or by Slurm; go on when you like.", "modpo rerun {run} --class cancelled"),
    "lost": ("Slurm has forgotten the job; its log may tell more.", "modpo rerun {run} --class lost"),
}

LOG_TAIL_BYTES = 8192


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
    stopped_for = attempt.cause or "" if attempt else ""
    over = any(step.max_rss_mb and step.requested_mb and step.max_rss_mb > step.requested_mb for step in evidence.steps)
    memory_step = any(step.state == "OUT_OF_MEMORY" for step in evidence.steps)
    if GPU_MEMORY.search(error):
        return "oom-gpu"
    if evidence.slurm == "OUT_OF_MEMORY" or memory_step or over or HOST_MEMORY.search(f"{evidence.slurm_log}\n{error}"):
        return "oom"
    if evidence.slurm in ("TIMEOUT", "DEADLINE") or stopped_for.startswith("timeout") or TIME.search(both):
        return "time"
    if evidence.slurm in ("NODE_FAIL", "BOOT_FAIL") or NODE.search(f"{evidence.slurm_log}\n{error}"):
        return "node"
    if evidence.slurm == "PREEMPTED" or stopped_for.startswith("preemption") or PREEMPTION.search(both):
        return "preempted"
    if evidence.slurm == "CANCELLED" or stopped_for == "cancelled":
        return "cancelled"
    if stopped_for == ENDED_BY_SLURM:  # without Slurm's own word it may have been a person
        return "slurm" if evidence.slurm else "cancelled"
    if DISK.search(f"{error}\n{evidence.slurm_log}") or evidence.exit_code.startswith(f"{NO_ROOM_CODE}:"):
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
    remedy, command = REMEDIES[group.cause]
    first = group.failures[0].state
    names = (shlex.quote(str(one)) for one in (run, first.stage, first.shard))
    return remedy, command.format(**dict(zip(("run", "stage", "shard"), names, strict=True)))


def _failure(snapshot: Snapshot, state: ShardState, steps: Sequence[JobStep], folders: Mapping[str, Path]) -> Failure:
    attempts = attempts_at(snapshot.run.logs, state.stage, state.shard)
    of_this_job = [one for one in attempts if one.job == state.job]
    attempt = of_this_job[-1] if of_this_job else None
    folder = folders.get((state.job or "").partition("_")[0])
    # Slurm writes on where an earlier life of a requeued job has ended; how that ended is not why this one failed.
    slurm_log = _end_of(slurm_log_of(folder, state.job)).rpartition(BEGINS)[2] if folder and state.job else ""
    log = _end_of(log_of(snapshot.run.logs, attempt)) if attempt else ""
    exit_code = max((one.exit_code for one in snapshot.records_of(state.job)), default="")
    cause = classify(Evidence(state.slurm, attempt, tuple(steps), slurm_log, log, exit_code))
    message = state.note or (attempt.error if attempt and attempt.error else "")
    if not message and cause == "oom":
        message = _last_line(HOST_MEMORY, slurm_log)
    if not message and attempt is None:
        message = _last_line(START_UP, slurm_log)
    message = message or _last_line(TROUBLE, log, slurm_log) or state.slurm
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
