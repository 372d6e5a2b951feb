"""What was handed to Slurm: an append-only journal in the run directory, so that any command finds any job."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from modpo_hpc import shards
from modpo_hpc.errors import InputError
from modpo_hpc.run import Run

if TYPE_CHECKING:
    from modpo_hpc.launch.profile import Profile

FOLDER, JOURNAL, LOCK, PROFILE = "slurm", "submissions.jsonl", "lock", "profile.yaml"


@dataclass(frozen=True)
class Submission:
    """One call of sbatch: an array with a shard an element, or a single job."""

    stage: str
    job: str
    shards: tuple[str, ...]
    submitted: float
    after: tuple[str, ...]
    minutes: int
    memory_gb: float
    gpus: int
    cpus: int
    nodes: int
    folder: str

    def job_of(self, index: int) -> str:
        """Slurm's id of the shard at ``index``: a single shard gets a plain id, no array."""
        return self.job if len(self.shards) == 1 else f"{self.job}_{index}"

    def jobs(self) -> dict[str, str]:
        """Shard -> Slurm's id."""
        return {shard: self.job_of(index) for index, shard in enumerate(self.shards)}


@dataclass(frozen=True)
class QueueJournal:
    """All submissions of a run, and the jobs that were cancelled on purpose."""

    submissions: tuple[Submission, ...]
    cancelled: dict[str, str]

    @property
    def since(self) -> float:
        """When the first job was handed in."""
        return min((one.submitted for one in self.submissions), default=0.0)

    def latest(self, stage: str) -> dict[str, tuple[Submission, str]]:
        """Shard -> the submission that holds it last, and its job id there."""
        found: dict[str, tuple[Submission, str]] = {}
        for submission in self.submissions:
            if submission.stage == stage:
                found |= {shard: (submission, job) for shard, job in submission.jobs().items()}
        return found


def read_journal(run: Run) -> QueueJournal:
    """The submissions of ``run``; a torn last line, of a writer that was killed, is passed over."""
    submissions: list[Submission] = []
    cancelled: dict[str, str] = {}
    for row in _rows(run.root / FOLDER / JOURNAL):
        if row["event"] == "submitted":
            fields = {key: value for key, value in row.items() if key != "event"}
            fields["shards"], fields["after"] = tuple(fields["shards"]), tuple(fields["after"])
            submissions.append(Submission(**fields))
        elif row["event"] == "cancelled":
            cancelled |= dict.fromkeys(row["jobs"], row["why"])
    return QueueJournal(tuple(submissions), cancelled)


def record_submission(run: Run, submission: Submission) -> None:
    """Write down that ``submission`` is in the queue."""
    _append(run, {"event": "submitted", **asdict(submission)})


def record_cancel(run: Run, jobs: Sequence[str], why: str) -> None:
    """Write down that ``jobs`` were cancelled: by a person (``"asked"``) or to mend the graph (``"graph"``)."""
    if jobs:
        _append(run, {"event": "cancelled", "jobs": list(jobs), "why": why})


def keep_profile(run: Run, profile: Profile) -> None:
    """Keep ``profile`` in the run, so that a rerun uses it without being told."""
    with shards.atomic_file(run.root / FOLDER / PROFILE, "w") as stream:
        yaml.safe_dump(profile.model_dump(mode="json", exclude_defaults=True), stream, sort_keys=False)


def kept_profile(run: Run) -> Profile | None:
    """The profile with which this run was last submitted; None if it never was."""
    from modpo_hpc.launch.profile import load_profile

    path = run.root / FOLDER / PROFILE
    return load_profile(path) if path.exists() else None


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """One command at a time changes the queue of a run.

    Raises:
        InputError: another one does so now.
    """
    folder = run.root / FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    with open(folder / LOCK, "a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "another modpo command changes the queue of this run right now",
                file=run.root,
                remedy="Wait until it has ended; modpo status shows what is queued.",
            ) from None
        yield


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for line in lines:
        if line.endswith(b"\n"):
            yield json.loads(line)


def _append(run: Run, row: dict[str, Any]) -> None:
    path = run.root / FOLDER / JOURNAL
    with shards.Journal(path) as journal:
        journal.append([row])
