"""The truth about a run: markers, reconciled with squeue and then sacct. Where they disagree, it is said."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from modpo_hpc import shards
from modpo_hpc.launch.accounting import RUNNING, Life, QueueLine, ask_accounting, ask_queue, available
from modpo_hpc.launch.attempts import Attempt, attempts_at, this_node
from modpo_hpc.launch.submissions import Book, Submission, read_book
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.run import Run

State = Literal["done", "running", "queued", "blocked", "failed", "cancelled", "stale", "todo"]
STATES: tuple[State, ...] = ("done", "running", "queued", "blocked", "failed", "cancelled", "stale", "todo")
SILENT_SECONDS = 120.0
RECENT_MARKERS = 50


@dataclass(frozen=True)
class StageSurvey:
    """The markers of one stage and the inputs that a fresh one has."""

    markers: dict[str, shards.Marker]
    inputs: str

    def fresh(self, shard: str) -> bool:
        """Whether ``shard`` is done."""
        return shard in self.markers and self.markers[shard].fits(self.inputs)


@dataclass(frozen=True)
class ShardState:
    """Where one shard stands. ``slurm`` is Slurm's word for its job, ``note`` a disagreement worth a look."""

    stage: str
    shard: str
    state: State
    job: str | None = None
    slurm: str = ""
    node: str = ""
    when: float | None = None
    note: str = ""


@dataclass(frozen=True)
class StageState:
    """One row of status."""

    stage: str
    total: int
    counts: dict[State, int]
    rows: int
    shards_per_hour: float | None
    seconds_left: float | None
    gpu_hours: float
    gpu_hours_wasted: float
    cpu_hours: float
    newest_failure: ShardState | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A run at one instant."""

    run: Run
    survey: dict[str, StageSurvey]
    book: Book
    queue: dict[str, QueueLine]
    lives: dict[str, list[Life]] | None
    shards: dict[str, dict[str, ShardState]]
    taken: float = field(default_factory=time.time)

    def alive(self, stage: str) -> dict[str, str]:
        """Shard -> job, of those that are queued or running and can still end well."""
        return {
            shard: state.job
            for shard, state in self.shards[stage].items()
            if state.job and (line := self.queue.get(state.job)) and line.alive and not line.stuck
        }

    def incomplete(self, stage: str) -> list[str]:
        """Shards without a fresh result."""
        return [shard for shard, state in self.shards[stage].items() if state.state != "done"]

    def sizes(self) -> dict[str, int]:
        """Array -> number of its elements."""
        return {submission.job: len(submission.shards) for submission in self.book.submissions}


def take_picture(run: Run) -> Picture:
    """Look at the markers, the book, squeue and sacct, at the same time."""
    book = read_book(run)
    jobs = [submission.job for submission in book.submissions]
    if jobs and available():
        with ThreadPoolExecutor(2) as pool:
            queue_answer = pool.submit(ask_queue, jobs)
            account_answer = pool.submit(ask_accounting, jobs, book.since)
            found = survey(run)
            queue, lives = queue_answer.result(), account_answer.result()
    else:
        found, queue, lives = survey(run), [], None
    by_job = {line.job: line for line in queue}
    lives_of = None if lives is None else _by_job(lives)
    states = {stage.name: _stage_shards(run, stage.name, found[stage.name], book, by_job, lives_of) for stage in STAGES}
    return Picture(run, found, book, by_job, lives_of, states)


def survey(run: Run) -> dict[str, StageSurvey]:
    """Every marker of the run, read once, and the inputs of every stage."""
    found: dict[str, StageSurvey] = {}
    digests: dict[str, str] = {}
    for stage in STAGES:
        folder = run.folder(stage.name)
        try:
            present = {entry.name for entry in os.scandir(folder / shards.MARKERS)}
        except FileNotFoundError:
            present = set()
        markers = {}
        for shard in run.shard_ids(stage.name):
            if f"{shard}.json" in present and (marker := shards.read_marker(folder, shard)) is not None:
                markers[shard] = marker
        digests[stage.name] = shards.digest(markers.values())
        found[stage.name] = StageSurvey(markers, run.inputs(stage.name, digests))
    return found


def reconcile(
    fresh: bool,
    stale: bool,
    job: str | None,
    line: QueueLine | None,
    lives: Sequence[Life] | None,
    cancelled: bool,
) -> tuple[State, str, str]:
    """State, Slurm's word and a note for one shard.

    A marker outranks Slurm: the data are whole. Then squeue, which is never late; then sacct, whose line for a
    requeued job keeps an old state for a while.
    """
    last = max(lives or (), key=lambda life: (life.submit or 0, life.start or 0), default=None)
    if line is not None and (line.alive or last is None or last.alive):
        word = line.state
    else:
        word = last.state if last is not None else ""
    if fresh:
        ended_badly = bool(word) and word != "COMPLETED" and not (line is not None and line.alive)
        return "done", word, f"done, although Slurm says {word}" if ended_badly else ""
    if line is not None and line.alive:
        if line.stuck:
            return "blocked", word, line.reason
        return ("running" if line.state in RUNNING else "queued"), word, ""
    if job is None:
        return ("stale" if stale else "todo"), "", ""
    if cancelled:
        return "cancelled", word or "CANCELLED", ""
    if word == "COMPLETED":
        if stale:
            return "stale", word, ""
        return "failed", word, "COMPLETED without a marker"
    if last is not None and last.alive and line is None:
        return "failed", word, f"sacct says {word}, squeue does not know it"
    return "failed", word, "" if word else "left the queue without a marker"


def summarise(picture: Picture, stage: str) -> StageState:
    """The row of ``stage``."""
    states = picture.shards[stage]
    found = picture.survey[stage]
    counts: dict[State, int] = {state: 0 for state in STATES}
    counts |= Counter(one.state for one in states.values())
    done = [marker for shard, marker in found.markers.items() if states[shard].state == "done"]
    rate = _rate(done, picture.taken)
    left = len(states) - counts["done"]
    gpu, gpu_wasted, cpu = _hours(picture, stage)
    failures = [one for one in states.values() if one.state == "failed"]
    notes = Counter(one.note for one in states.values() if one.note)
    return StageState(
        stage=stage,
        total=len(states),
        counts=counts,
        rows=sum(marker.rows for marker in done),
        shards_per_hour=rate,
        seconds_left=_time_left(left, rate, done, counts["running"]),
        gpu_hours=gpu,
        gpu_hours_wasted=gpu_wasted,
        cpu_hours=cpu,
        newest_failure=max(failures, key=lambda one: one.when or 0.0, default=None),
        notes=tuple(f"{count} x {note}" if count > 1 else note for note, count in notes.items()),
    )


def _stage_shards(
    run: Run,
    stage: str,
    found: StageSurvey,
    book: Book,
    queue: Mapping[str, QueueLine],
    lives: Mapping[str, list[Life]] | None,
) -> dict[str, ShardState]:
    submitted = book.latest(stage)
    try:
        attempted = {entry.name for entry in os.scandir(run.logs / stage)}
    except FileNotFoundError:
        attempted = set()
    states = {}
    for shard in run.shard_ids(stage):
        submission, job = submitted.get(shard, (None, None))
        line = queue.get(job) if job else None
        mine = (lives or {}).get(job, []) if job else []
        fresh = found.fresh(shard)
        cancelled = job is not None and (job in book.cancelled or job.partition("_")[0] in book.cancelled)
        state, word, note = reconcile(fresh, shard in found.markers, job, line, mine, cancelled)
        last = max(mine, key=lambda life: life.submit or 0, default=None)
        node = line.nodes if line is not None and line.nodes else last.nodes if last else ""
        when = last.end if last else line.end if line is not None else None
        one = ShardState(stage, shard, state, job, word, node, when, note)
        if shard in attempted and state in ("todo", "stale", "failed", "cancelled"):
            one = _with_attempts(one, submission, attempts_at(run.logs, stage, shard))
        states[shard] = one
    return states


def _with_attempts(one: ShardState, submission: Submission | None, attempts: Sequence[Attempt]) -> ShardState:
    """``one`` with what its last attempt says, if that ran outside of Slurm or Slurm has forgotten it."""
    if not attempts:
        return one
    last = attempts[-1]
    outside = last.job is None and (submission is None or last.started > submission.submitted)
    if outside and last.outcome == "running" and _lives_here(last):
        return ShardState(one.stage, one.shard, "running", None, "", last.node, last.started)
    if outside and last.outcome == "interrupted":
        return one
    if outside and last.outcome != "done":
        word = "KILLED" if last.outcome == "running" else ""
        return ShardState(one.stage, one.shard, "failed", None, word, last.node, last.ended or last.started)
    if one.state == "failed":
        return ShardState(
            one.stage, one.shard, one.state, one.job, one.slurm, one.node or last.node, one.when or last.ended, one.note
        )
    return one


def _lives_here(attempt: Attempt) -> bool:
    """Whether the process of ``attempt`` runs on this machine; one on another machine is judged by its age."""
    if attempt.node != this_node():
        return time.time() - attempt.started < SILENT_SECONDS
    try:
        os.kill(attempt.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _hours(picture: Picture, stage: str) -> tuple[float, float, float]:
    """GPU-hours, GPU-hours of lives that made nothing, and CPU-hours."""
    states = picture.shards[stage]
    if picture.lives is not None:
        gpu = wasted = cpu = 0.0
        for submission in (one for one in picture.book.submissions if one.stage == stage):
            for shard, job in submission.jobs().items():
                for life in picture.lives.get(job, []):
                    gpu += life.seconds * life.gpus / 3600
                    cpu += life.seconds * life.cpus / 3600
                    useful = life.alive or (life.state == "COMPLETED" and states[shard].state == "done")
                    wasted += 0 if useful else life.seconds * life.gpus / 3600
        return gpu, wasted, cpu
    resources = {shard: submission for shard, (submission, _) in picture.book.latest(stage).items()}
    gpu = cpu = 0.0
    for shard, marker in picture.survey[stage].markers.items():
        if shard in resources:
            gpu += marker.seconds * resources[shard].gpus * resources[shard].nodes / 3600
            cpu += marker.seconds * resources[shard].cpus * resources[shard].nodes / 3600
        else:
            cpu += marker.seconds * stage_named(stage).resources(picture.run.study).cpus / 3600
    return gpu, 0.0, cpu


def _rate(done: Sequence[shards.Marker], now: float) -> float | None:
    """Shards an hour over the newest ones, if they are recent."""
    ends = sorted(marker.started + marker.seconds for marker in done)[-RECENT_MARKERS:]
    if len(ends) < 2 or ends[-1] - ends[0] < 1e-3:
        return None
    return (len(ends) - 1) / (ends[-1] - ends[0]) * 3600


def _time_left(left: int, rate: float | None, done: Sequence[shards.Marker], running: int) -> float | None:
    if not left or not running:
        return None
    if rate:
        return left / rate * 3600
    if not done:
        return None
    return statistics.median(marker.seconds for marker in done) * left / running


def _by_job(lives: Sequence[Life]) -> dict[str, list[Life]]:
    found: dict[str, list[Life]] = {}
    for life in lives:
        found.setdefault(life.job, []).append(life)
    return found
