"""Attempts at a shard: each has a log of its own, and a small record of how it went.

``<logs>/<stage>/<shard>/attempt_<n>.out`` is what the attempt wrote, ``attempt_<n>.json`` who ran it and how it ended,
``latest`` a link to the newest log. An attempt that was killed leaves a record without an end.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from modpo_hpc.core.atomic import write_text
from modpo_hpc.errors import IncompleteError, InputError, Interrupted

NO_ROOM_CODE = 74
"""Exit code of a job whose log cannot be written: a full disk leaves no other trace of itself."""
ENDED_BY_SLURM = "ended by Slurm"
"""Cause of an attempt that was stopped while Slurm did not say why: its record of the job tells more."""
Outcome = Literal["running", "done", "failed", "bad input", "incomplete", "interrupted"]


@dataclass(frozen=True)
class Attempt:
    """One attempt at one shard. ``cause`` says why it was interrupted, ``error`` is its last exception."""

    stage: str
    shard: str
    number: int
    job: str | None
    restarts: int
    node: str
    pid: int
    started: float
    ended: float | None = None
    outcome: Outcome = "running"
    cause: str | None = None
    error: str | None = None


def slurm_job() -> str | None:
    """Slurm's id of this process's job, ``<array>_<index>`` in an array; None outside of Slurm."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def this_node() -> str:
    """The node as Slurm calls it, or the host."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def claim_attempt(logs: Path, stage: str, shard: str) -> tuple[int, Path]:
    """Number and log file of a new attempt; two that start at once get different ones."""
    folder = logs / stage / shard
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    number = max((attempt_number(path) for path in folder.glob("attempt_*.out")), default=0) + 1
    while True:
        log = folder / f"attempt_{number}.out"
        try:
            os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError:
            number += 1
    link = folder / f".latest.{socket.gethostname()}.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(log.name)
    os.replace(link, folder / "latest")
    return number, log


def attempt_number(path: Path) -> int:
    """The number in the name of a log or a record."""
    return int(path.stem.rpartition("_")[2])


def attempts_at(logs: Path, stage: str, shard: str) -> list[Attempt]:
    """The attempts at a shard, oldest first."""
    records = sorted((logs / stage / shard).glob("attempt_*.json"), key=attempt_number)
    return [Attempt(**json.loads(record.read_bytes())) for record in records]


def attempted_shards(logs: Path, stage: str) -> set[str]:
    """The shards of ``stage`` at which there was an attempt."""
    try:
        return set(os.listdir(logs / stage))
    except FileNotFoundError:
        return set()


def log_of(logs: Path, attempt: Attempt) -> Path:
    """The log file of ``attempt``."""
    return logs / attempt.stage / attempt.shard / f"attempt_{attempt.number}.out"


def slurm_log_of(folder: Path, job: str) -> Path:
    """What Slurm itself kept of ``job``, whose tasks stand in ``folder``."""
    return folder / f"{job}_0_log.out"


@contextmanager
def recorded(log: Path, stage: str, shard: str, number: int, redirect: bool = True) -> Iterator[None]:
    """The block is attempt ``number``: all that this process writes goes to ``log``, its outcome beside it.

    The exception of the block is written to the log and goes on. Output stays redirected afterwards: the process is
    expected to end. Without ``redirect`` only the outcome is kept.
    """
    os.environ["MODPO_ATTEMPT"] = str(number)
    attempt = Attempt(
        stage=stage,
        shard=shard,
        number=number,
        job=slurm_job(),
        restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        node=this_node(),
        pid=os.getpid(),
        started=time.time(),
    )
    record = log.with_suffix(".json")
    _write(record, attempt)
    if redirect:
        redirect_output(log, f"{stage}/{shard}" + (f" job {attempt.job}" if attempt.job else ""))
    try:
        yield
    except BaseException as error:
        if redirect and not isinstance(error, SystemExit):
            traceback.print_exc()
        cause, said = getattr(error, "cause", None), _in_a_line(error)
        _write(record, replace(attempt, ended=time.time(), outcome=_outcome(error), cause=cause, error=said))
        raise
    _write(record, replace(attempt, ended=time.time(), outcome="done"))


def redirect_output(log: Path, label: str) -> None:
    """Send what this process writes to ``log``, unbuffered, each line with time and ``label``."""
    sys.stdout.flush()
    sys.stderr.flush()
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.close(stream)
    sys.stdout, sys.stderr = _Stamped(1, label), _Stamped(2, label)


def is_log(stream: object) -> bool:
    """Whether ``stream`` is the log of an attempt, which stamps its lines itself."""
    return isinstance(stream, _Stamped)


class _Stamped(io.TextIOBase):
    """A text stream that writes whole lines at once, each with the time and a label before it.

    What C libraries write goes past it, straight to the file, so that nothing is lost when the process is killed.
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int, label: str) -> None:
        self._descriptor, self._label, self._begun = descriptor, label, ""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).replace("\r", "\n").split("\n")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S")
        whole = "".join(f"{stamp} {self._label} | {line}\n" for line in lines if line.strip())
        if whole:
            os.write(self._descriptor, whole.encode("utf-8", "replace"))
        return len(text)

    def flush(self) -> None:
        """Nothing to do: whole lines are written at once."""


def _outcome(error: BaseException) -> Outcome:
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, InputError):
        return "bad input"
    return "incomplete" if isinstance(error, IncompleteError) else "failed"


def _in_a_line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:500] if words else type(error).__name__


def _write(record: Path, attempt: Attempt) -> None:
    write_text(record, json.dumps(asdict(attempt)))
