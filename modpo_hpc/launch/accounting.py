"""What Slurm says: ask squeue, sacct and scontrol, and read their answers.

Asking and reading are apart; the readers are functions of text.
"""

from __future__ import annotations

import getpass
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from modpo_hpc.errors import InputError, ModpoError

QUEUE_FORMAT = "%i|%A|%T|%S|%e|%N|%M|%k|%r"
ACCOUNT_FIELDS = (
    "JobID",
    "JobIDRaw",
    "State",
    "ExitCode",
    "Submit",
    "Start",
    "End",
    "ElapsedRaw",
    "NodeList",
    "AllocTRES",
)
STEP_FIELDS = ("JobID", "State", "ExitCode", "MaxRSS", "ReqMem", "NodeList")
RUNNING = frozenset(("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"))
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SPECIAL_EXIT")
ALIVE = RUNNING | frozenset(WAITING)
NEVER_SATISFIED = "DependencyNeverSatisfied"
NO_JOB = ("Invalid job id",)
# Nothing is wrong with the call: the controller is busy, restarting or hands over to its twin.
PASSING = (
    "Socket timed out", "Unable to contact slurm controller", "Connection refused", "Connection timed out",
    "Resource temporarily unavailable", "temporarily unable to accept", "Zero Bytes were transmitted",
    "standby mode", "Message connect failure", "Connection reset", "Slurm controller not responding",
    "Transport endpoint is not connected", "Unspecified error",
)  # fmt: skip


class SlurmError(ModpoError):
    """A Slurm command failed; the message holds what it said."""


@dataclass(frozen=True)
class QueueLine:
    """A job or array element as squeue shows it."""

    job: str
    raw: str
    state: str
    start: float | None
    end: float | None
    nodes: str
    seconds: int
    comment: str
    reason: str

    @property
    def alive(self) -> bool:
        return self.state in ALIVE

    @property
    def stuck(self) -> bool:
        """Waits for ever: a job that it depends on has failed."""
        return self.state == "PENDING" and self.reason == NEVER_SATISFIED


@dataclass(frozen=True)
class Life:
    """One life of a job or array element as sacct shows it; a requeue begins a new one."""

    job: str
    raw: str
    state: str
    exit_code: str
    submit: float | None
    start: float | None
    end: float | None
    seconds: int
    nodes: str
    cpus: int
    gpus: int

    @property
    def alive(self) -> bool:
        return self.state in ALIVE and self.end is None


@dataclass(frozen=True)
class Step:
    """A step of a job: where sacct keeps the memory and the cause of a kill."""

    job: str
    step: str
    state: str
    exit_code: str
    max_rss_mb: float | None
    requested_mb: float | None


def available() -> bool:
    """Whether the Slurm commands are on this machine."""
    return all(shutil.which(command) for command in ("sbatch", "squeue", "scontrol", "scancel", "sinfo"))


def require_slurm() -> None:
    """Refuse to go on without Slurm.

    Raises:
        InputError: its commands are not here, or its controller does not answer.
    """
    if not available():
        raise InputError(
            "there is no Slurm on this machine (sbatch, squeue, scontrol, scancel and sinfo are looked for)",
            remedy="Log in to the cluster, or run here with: modpo run. To try one out: slurm/testbed/testbed.py",
        )
    try:
        call("scontrol", "ping", attempts=4)
    except SlurmError as error:
        raise InputError(
            f"Slurm does not answer ({error})",
            remedy="Is this a login node of the cluster, and SLURM_CONF right? Try: scontrol ping",
        ) from error


def call(*command: str, timeout: float = 60, attempts: int = 1, text_in: str | None = None) -> str:
    """Standard output of a Slurm ``command``; hiccups of the controller are retried with growing pauses.

    Raises:
        SlurmError: it failed, or there is no such command.
    """
    for attempt in range(attempts):
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=timeout,
                input=text_in,
                env=clean_environment(os.environ),
            )
        except FileNotFoundError:
            raise SlurmError(f"{command[0]} is not on this machine") from None
        except subprocess.TimeoutExpired:
            words = f"Socket timed out: no answer in {timeout:.0f} s"
        else:
            if done.returncode == 0:
                return done.stdout if text_in is None else done.stdout + done.stderr
            words = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        if attempt + 1 < attempts and is_passing(words):
            time.sleep(2**attempt)
        else:
            break
    raise SlurmError(f"{command[0]}: {words.splitlines()[-1].removeprefix(f'{command[0]}: ')}")


def is_passing(words: str) -> bool:
    """Whether what a Slurm command said is a hiccup, so that the same call may work in a moment."""
    return any(one in words for one in PASSING)


def clean_environment(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """``environment`` without what an interactive job leaves in it.

    SLURM_* and SLURM_CPU_BIND* would bind the new job as the old one was; SBATCH_* would override its options.
    """
    kept = ("SLURM_CONF",)
    return {
        key: value
        for key, value in environment.items()
        if key in kept or not key.startswith(("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_", "SUBMITIT_", "PMI"))
    }


def ask_queue(jobs: Iterable[str]) -> list[QueueLine]:
    """The lines of squeue on ``jobs`` (ids of jobs or arrays), with what has ended lately."""
    wanted = sorted({job.partition("_")[0] for job in jobs}, key=int)
    if not wanted:
        return []
    try:
        which = ("--array", "--states=all", f"--jobs={','.join(wanted)}")
        text = call("squeue", "--noheader", *which, f"--format={QUEUE_FORMAT}", attempts=3)
    except SlurmError as error:
        if any(one in str(error) for one in NO_JOB):
            return []
        raise
    return read_queue(text)


def ask_queue_of_user() -> list[QueueLine]:
    """The lines of squeue on all jobs of this user."""
    return read_queue(call("squeue", "--noheader", "--array", "--me", f"--format={QUEUE_FORMAT}", attempts=3))


def ask_accounting(jobs: Iterable[str], since: float) -> list[Life] | None:
    """Every life of ``jobs`` by sacct, or None if this cluster keeps no accounts."""
    wanted = sorted({job.partition("_")[0] for job in jobs}, key=int)
    if not wanted:
        return []
    text = _sacct(("--allocations", "--duplicates"), wanted, since, ACCOUNT_FIELDS)
    return None if text is None else read_accounting(text)


def ask_steps(jobs: Iterable[str], since: float) -> list[Step] | None:
    """The steps of ``jobs`` by sacct, or None if this cluster keeps no accounts."""
    wanted = sorted(set(jobs))
    if not wanted:
        return []
    text = _sacct((), wanted, since, STEP_FIELDS)
    return None if text is None else read_steps(text)


def ask_job(job: str) -> dict[str, str]:
    """What scontrol knows of ``job``; empty when it has forgotten it."""
    try:
        return read_job(call("scontrol", "--oneliner", "show", "job", job, attempts=3))
    except SlurmError as error:
        if any(one in str(error) for one in NO_JOB):
            return {}
        raise


def read_queue(text: str) -> list[QueueLine]:
    """Lines of squeue in QUEUE_FORMAT."""
    lines = []
    for line in text.splitlines():
        job, raw, state, start, end, nodes, elapsed, rest = line.split("|", 7)
        comment, _, reason = rest.rpartition("|")
        lines.append(
            QueueLine(
                job, raw, state.split()[0], instant(start), instant(end), nodes, _seconds(elapsed), comment, reason
            )
        )
    return lines


def read_accounting(text: str) -> list[Life]:
    """Lines of sacct with ACCOUNT_FIELDS; a pending range such as ``7_[2-5]`` is taken apart."""
    lives = []
    for line in text.splitlines():
        job, raw, state, exit_code, submit, start, end, elapsed, nodes, tres = line.split("|")
        for one in expand_job(job):
            lives.append(
                Life(
                    one,
                    raw,
                    state.split()[0] if state else "UNKNOWN",
                    exit_code,
                    instant(submit),
                    instant(start),
                    instant(end),
                    int(elapsed or 0),
                    "" if nodes == "None assigned" else nodes,
                    _tres(tres, "cpu"),
                    _tres(tres, "gres/gpu"),
                )
            )
    return lives


def read_steps(text: str) -> list[Step]:
    """Lines of sacct with STEP_FIELDS; the line of the job itself has an empty step."""
    steps = []
    requested: dict[str, float | None] = {}
    for line in text.splitlines():
        job_id, state, exit_code, max_rss, wanted, _ = line.split("|")
        job, _, step = job_id.partition(".")
        if wanted:
            requested[job] = _megabytes(wanted)
        steps.append(Step(job, step, state.split()[0], exit_code, _megabytes(max_rss), requested.get(job)))
    return steps


def read_job(text: str) -> dict[str, str]:
    """The fields of ``scontrol --oneliner show job``; values with spaces keep their first word."""
    return dict(part.split("=", 1) for part in text.split() if "=" in part)


def expand_job(job: str) -> list[str]:
    """``7_[1,3-5%2]`` as ``7_1``, ``7_3``, ``7_4``, ``7_5``; any other id as it is."""
    found = re.fullmatch(r"(\d+)_\[([\d,\-]+)(?:%\d+)?\]", job)
    if found is None:
        return [job]
    ids = []
    for part in found[2].split(","):
        low, _, high = part.partition("-")
        ids += [f"{found[1]}_{index}" for index in range(int(low), int(high or low) + 1)]
    return ids


def max_array_size() -> int:
    """Number of elements that an array may have on this cluster: its largest index is one less."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", call("scontrol", "show", "config", attempts=3))
    return int(found[1]) if found else 1001


def partitions() -> dict[str, float]:
    """Partition -> its longest time limit in minutes, infinite where there is none."""
    return read_partitions(call("sinfo", "--noheader", "--format=%R|%l", attempts=3))


def read_partitions(text: str) -> dict[str, float]:
    """Lines of ``sinfo --format=%R|%l``."""
    found = {}
    for line in text.splitlines():
        name, _, limit = line.strip().rpartition("|")
        found[name] = math.inf if limit in ("infinite", "n/a") else _seconds(limit) / 60
    return found


def my_accounts() -> list[str]:
    """Slurm accounts of this user, the default one first; empty where no accounts are kept."""
    try:
        which = ("show", "user", getpass.getuser(), "withassoc", "format=defaultaccount,account")
        text = call("sacctmgr", "--noheader", "--parsable2", *which)
    except SlurmError:
        return []
    rows = [line.split("|") for line in text.splitlines() if "|" in line]
    return list(dict.fromkeys([*(row[0] for row in rows), *(row[1] for row in rows)]))


def cancel(jobs: Sequence[str]) -> None:
    """Cancel ``jobs``; those that have ended already are passed over.

    A pending array element is held first: cancelled straight away it would leave no trace in Slurm's books.
    """
    for start in range(0, len(jobs), 500):
        block = jobs[start : start + 500]
        elements = [job for job in block if "_" in job]
        if elements:
            # Running or ended elements cannot be held; scancel below tells of real trouble.
            with suppress(SlurmError):
                call("scontrol", "hold", ",".join(elements), attempts=2)
        try:
            call("scancel", *block, attempts=4)
        except SlurmError as error:
            if not any(one in str(error) for one in (*NO_JOB, "already completing or completed")):
                raise


def _sacct(options: Sequence[str], jobs: Sequence[str], since: float, fields: Sequence[str]) -> str | None:
    # Without a start sacct looks no further back than midnight.
    start = datetime.fromtimestamp(since - 3600).strftime("%Y-%m-%dT%H:%M:%S")
    which = (f"--starttime={start}", f"--jobs={','.join(jobs)}", f"--format={','.join(fields)}")
    try:
        return call("sacct", "--noheader", "--parsable2", *options, *which)
    except SlurmError:
        return None


def instant(text: str) -> float | None:
    """A time as Slurm writes it, in seconds since 1970; None for ``Unknown``, ``N/A`` and the like."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _seconds(elapsed: str) -> int:
    """``1-02:03:04``, ``02:03:04``, ``3:04`` or ``INVALID`` as seconds."""
    days, _, clock = elapsed.rpartition("-")
    total = 0
    for part in clock.split(":"):
        if not part.isdigit():
            return 0
        total = total * 60 + int(part)
    return total + int(days or 0) * 86400


def _tres(text: str, name: str) -> int:
    found = re.search(rf"(?:^|,){re.escape(name)}(?::\w+)?=(\d+)", text)
    return int(found[1]) if found else 0


def _megabytes(text: str) -> float | None:
    found = re.fullmatch(r"([\d.]+)([KMGT]?)[cn]?", text)
    if found is None:
        return None
    return float(found[1]) * {"": 1 / 1024 / 1024, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}[found[2]]
