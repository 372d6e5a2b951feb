"""The journal of a run's queue: every change of it, written down before and after, so that any command finds any job
and the next one puts right what a command that died has left half-done.

A row each: ``intent`` before sbatch and ``submitted`` after it (or ``abandoned``, when Slurm refused), ``cancelling``
and ``cancelled``, ``released``, ``learned``: what a stage has been found to need, and ``goal``: the stages that are
asked for.
"""

from __future__ import annotations

import errno
import fcntl
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from modpo_hpc.core.atomic import atomic_file
from modpo_hpc.core.journal import Journal
from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.launch.profile import Profile, load_profile
from modpo_hpc.run import Run

FOLDER, JOURNAL, LOCK, PROFILE = "slurm", "submissions.jsonl", "lock", "profile.yaml"
LOCK_SECONDS = 30.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Submission:
    """One call of sbatch: an array, or a single job; each element makes ``pack`` shards, one after the other.

    ``comment`` and ``cluster`` tell the job from a stranger's of the same number. ``after`` are the jobs that it waits
    for, ``throttle`` is how many elements may run at once, ``why`` what asked for it.
    """

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
    comment: str = ""
    cluster: str = ""
    throttle: int = 0
    pack: int = 1
    why: str = ""

    @property
    def elements(self) -> int:
        """Number of Slurm's jobs in it."""
        return -(-len(self.shards) // self.pack)

    def jobs(self) -> dict[str, str]:
        """Shard -> Slurm's id of its job: a single job gets a plain id, no array."""
        if self.elements == 1:
            return dict.fromkeys(self.shards, self.job)
        return {shard: f"{self.job}_{index // self.pack}" for index, shard in enumerate(self.shards)}


@dataclass(frozen=True)
class Learned:
    """What the shards of a stage were found to need, beyond profile and study; nodes to keep away from for a day."""

    memory_gb: float | None = None
    minutes: int | None = None
    exclude: tuple[str, ...] = ()
    at: float = 0.0


@dataclass
class QueueJournal:
    """All submissions of a run, what was cancelled on purpose, and what was begun and not ended.

    ``intents`` are all calls of sbatch by their comment, without a job; ``unfinished`` those of them whose end is not
    known. ``cancelled`` is job -> why; ``half_cancelled`` the jobs whose cancel may not have reached Slurm -> why.
    ``goal`` are the stages that were asked for, ``released`` is job -> how often it was let go after a failed start.
    """

    submissions: list[Submission] = field(default_factory=list)
    cancelled: dict[str, str] = field(default_factory=dict)
    intents: dict[str, Submission] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    half_cancelled: dict[str, str] = field(default_factory=dict)
    learned: dict[str, Learned] = field(default_factory=dict)
    goal: tuple[str, ...] = ()
    released: dict[str, int] = field(default_factory=dict)

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
    """The journal of ``run``; a torn last line, of a writer that was killed, is passed over.

    Raises:
        InputError: another line is none of ours; names the file and the line.
    """
    journal = QueueJournal()
    for row in _rows(run.root / FOLDER / JOURNAL):
        event = row.pop("event")
        row = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
        if event == "intent":
            one = Submission(**row)
            journal.intents[one.comment] = one
            journal.unfinished.add(one.comment)
        elif event == "submitted":
            one = Submission(**row)
            journal.submissions.append(one)
            journal.unfinished.discard(one.comment)
        elif event == "abandoned":
            journal.unfinished.discard(row["comment"])
        elif event in ("cancelling", "cancelled"):
            jobs = dict.fromkeys(row["jobs"], row["why"])
            journal.cancelled |= jobs
            if event == "cancelling":
                journal.half_cancelled |= jobs
            else:
                journal.half_cancelled = {job: why for job, why in journal.half_cancelled.items() if job not in jobs}
        elif event == "released":
            journal.released |= {job: journal.released.get(job, 0) + 1 for job in row["jobs"]}
        elif event == "goal":
            journal.goal = row["stages"]
        elif event == "learned":
            stage = row.pop("stage")
            journal.learned[stage] = Learned(**row)
    return journal


def record_submission(run: Run, submission: Submission) -> None:
    """Write down that ``submission`` is in the queue or, as long as it has no job, is about to be handed in."""
    _append(run, "submitted" if submission.job else "intent", **asdict(submission))


def record_abandoned(run: Run, comment: str) -> None:
    """Write down that the intent of this comment came to nothing."""
    _append(run, "abandoned", comment=comment)


def record_cancel(run: Run, jobs: Sequence[str], why: str, done: bool) -> None:
    """Write down that ``jobs`` are about to be cancelled, or have been: by a person (``"asked"``), because another
    submission has taken their place (``"replaced"``), or to make room for what they wait for (``"room"``)."""
    if jobs:
        _append(run, "cancelled" if done else "cancelling", jobs=list(jobs), why=why)


def record_released(run: Run, jobs: Sequence[str]) -> None:
    """Write down that ``jobs``, which Slurm holds because a node could not start them, are about to be let go."""
    _append(run, "released", jobs=list(jobs))


def record_learned(run: Run, stage: str, learned: Learned) -> None:
    """Write down what ``stage`` needs from now on."""
    _append(run, "learned", stage=stage, **asdict(learned))


def record_goal(run: Run, stages: Sequence[str]) -> None:
    """Write down which stages are asked for, so that whoever tends the run hands in the rest of them."""
    _append(run, "goal", stages=list(stages))


def keep_profile(run: Run, profile: Profile) -> None:
    """Keep ``profile`` in the run, so that a rerun uses it without being told."""
    with atomic_file(run.root / FOLDER / PROFILE, "w") as stream:
        yaml.safe_dump(profile.model_dump(mode="json", exclude_defaults=True), stream, sort_keys=False)


def kept_profile(run: Run) -> Profile | None:
    """The profile with which this run was last submitted; None if it never was."""
    path = run.root / FOLDER / PROFILE
    return load_profile(path) if path.exists() else None


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """One command at a time changes the queue of a run; another one is waited for.

    Raises:
        InputError: another one still does so after LOCK_SECONDS.
    """
    folder = run.root / FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    with open(folder / LOCK, "a") as stream:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise InputError(
                        "another modpo command changes the queue of this run right now",
                        file=run.root,
                        remedy="Wait until it has ended; modpo status shows what is queued.",
                    ) from None
            time.sleep(0.2)
        yield


@contextmanager
def told_of_a_full_disk(place: Path) -> Iterator[None]:
    """A full disk in this block is an error with a message for people.

    Raises:
        ModpoError: no space, or over quota; what was handed in until then is written down or found by its comment.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise ModpoError(
            f"no room to write below {place} ({error.strerror}); nothing was taken out of the queue. "
            "Make room (quota, df), then give the same command again."
        ) from error


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            continue
        try:
            row = json.loads(line)
            row["event"]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"line {number} is no row of the queue's journal",
                file=path,
                remedy="Take the line out; a job of this run that is then unknown is found by its comment.",
            ) from None
        yield row


def _append(run: Run, event: str, **row: Any) -> None:
    with Journal(run.root / FOLDER / JOURNAL) as journal:
        journal.append([{"event": event, **row}])
