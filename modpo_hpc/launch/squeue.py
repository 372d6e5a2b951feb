"""What squeue says of jobs that wait, run or have ended lately."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modpo_hpc.launch.commands import NO_JOB, QUICK_SECONDS, SlurmError, call
from modpo_hpc.launch.fields import instant, seconds_of

QUEUE_FORMAT = "%i|%A|%T|%S|%e|%N|%M|%k|%r"
RUNNING = frozenset(("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"))
ENDED = frozenset((
    "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY",
    "REVOKED",
))  # fmt: skip
"""A job in any other state can still come to something: a word of a newer Slurm is taken for one that waits."""
NEVER_SATISFIED = "DependencyNeverSatisfied"
HELD_AFTER_START = "requeued held"
"""How Slurm's reason ends where a node could not start a job, and it waits until somebody releases it."""


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
        return self.state not in ENDED

    @property
    def stuck(self) -> bool:
        """Waits for ever: a job that it depends on has failed."""
        return self.state == "PENDING" and self.reason == NEVER_SATISFIED

    @property
    def held_after_start(self) -> bool:
        """Held by Slurm itself, since a node could not start it."""
        return self.alive and self.state not in RUNNING and self.reason.endswith(HELD_AFTER_START)


def ask_queue(jobs: Iterable[str], wait: float = 0.0) -> list[QueueLine]:
    """The lines of squeue on ``jobs`` (ids of single jobs or whole arrays), with what has ended lately.

    Raises:
        SlurmSilent: squeue has not answered in ``wait`` seconds.
    """
    try:
        return _ask(f"--jobs={','.join(sorted(set(jobs), key=int))}", wait)
    except SlurmError as error:
        if NO_JOB in str(error):
            return []
        raise


def ask_queue_of_user(wait: float = 7.0) -> list[QueueLine]:
    """The lines of squeue on all jobs of this user."""
    return _ask("--me", wait)


def _ask(whose: str, wait: float) -> list[QueueLine]:
    which = ("--array", whose, "--states=all", f"--format={QUEUE_FORMAT}")
    return read_queue(call("squeue", "--noheader", *which, timeout=QUICK_SECONDS, wait=wait))


def read_queue(text: str) -> list[QueueLine]:
    """Lines of squeue in QUEUE_FORMAT."""
    lines = []
    for line in text.splitlines():
        job, raw, state, start, end, nodes, elapsed, rest = line.split("|", 7)
        comment, _, reason = rest.rpartition("|")
        lines.append(
            QueueLine(
                job, raw, state.split()[0], instant(start), instant(end), nodes, seconds_of(elapsed), comment, reason
            )
        )
    return lines
