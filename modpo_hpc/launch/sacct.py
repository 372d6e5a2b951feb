"""What sacct says of the records of jobs and of their steps, where a cluster keeps accounts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from modpo_hpc.launch.commands import SlurmError, call
from modpo_hpc.launch.fields import count_of, expand_job, instant, megabytes_of
from modpo_hpc.launch.squeue import ENDED

SACCT_SECONDS = 30.0
ACCOUNT_FIELDS = "JobID,JobIDRaw,State,ExitCode,Submit,Start,End,ElapsedRaw,NodeList,AllocTRES,JobName"
STEP_FIELDS = "JobID,State,ExitCode,MaxRSS,ReqMem,NodeList"


@dataclass(frozen=True)
class JobRecord:
    """One record of a job or array element as sacct shows it; a requeue begins a new one."""

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
    name: str

    @property
    def alive(self) -> bool:
        return self.state not in ENDED and self.end is None


@dataclass(frozen=True)
class JobStep:
    """A step of a job: where sacct keeps the memory and the cause of a kill."""

    job: str
    step: str
    state: str
    exit_code: str
    max_rss_mb: float | None
    requested_mb: float | None


def ask_accounting(jobs: Iterable[str], since: float) -> list[JobRecord] | None:
    """Every record of ``jobs`` by sacct, or None if this cluster keeps no accounts."""
    text = ask(jobs, since, ACCOUNT_FIELDS, "--allocations", "--duplicates")
    return None if text is None else read_accounting(text)


def ask_steps(jobs: Iterable[str], since: float) -> list[JobStep]:
    """The steps of ``jobs`` by sacct; none if this cluster keeps no accounts."""
    return read_steps(ask(jobs, since, STEP_FIELDS) or "")


def read_accounting(text: str) -> list[JobRecord]:
    """Lines of sacct with ACCOUNT_FIELDS; a pending range such as ``7_[2-5]`` is taken apart."""
    records: list[JobRecord] = []
    for line in text.splitlines():
        job, raw, state, exit_code, submit, start, end, elapsed, nodes, tres, name = line.split("|", 10)
        word, where = state.split()[0] if state else "UNKNOWN", "" if nodes == "None assigned" else nodes
        times = instant(submit), instant(start), instant(end), int(elapsed or 0)
        size = count_of(tres, "cpu"), count_of(tres, "gres/gpu")
        records += [JobRecord(one, raw, word, exit_code, *times, where, *size, name) for one in expand_job(job)]
    return records


def read_steps(text: str) -> list[JobStep]:
    """Lines of sacct with STEP_FIELDS; the line of the job itself has an empty step."""
    steps = []
    requested: dict[str, float | None] = {}
    for line in text.splitlines():
        job_id, state, exit_code, max_rss, wanted, _ = line.split("|")
        job, _, step = job_id.partition(".")
        if wanted:
            requested[job] = megabytes_of(wanted)
        steps.append(JobStep(job, step, state.split()[0], exit_code, megabytes_of(max_rss), requested.get(job)))
    return steps


def ask(jobs: Iterable[str], since: float, fields: str, *options: str) -> str | None:
    """Lines of sacct with ``fields`` on ``jobs``, None if this cluster keeps no accounts."""
    # Not told since when, sacct looks no further back than midnight.
    start = datetime.fromtimestamp(since - 3600).strftime("%Y-%m-%dT%H:%M:%S")
    which = (f"--starttime={start}", f"--jobs={','.join(sorted(set(jobs)))}", f"--format={fields}")
    try:
        return call("sacct", "--noheader", "--parsable2", *options, *which, timeout=SACCT_SECONDS)
    except SlurmError:
        return None
