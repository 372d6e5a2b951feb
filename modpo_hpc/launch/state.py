"""The truth about a run: markers, reconciled with squeue and then sacct. Where they disagree, it is said."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

import psutil

from modpo_hpc.core.marker_index import MarkerLine
from modpo_hpc.launch.attempts import Attempt, attempted_shards, attempts_at, this_node
from modpo_hpc.launch.cluster import ClusterFacts, ask_facts
from modpo_hpc.launch.commands import SlurmError, available
from modpo_hpc.launch.fields import array_of
from modpo_hpc.launch.sacct import JobRecord, ask_accounting
from modpo_hpc.launch.squeue import RUNNING, QueueLine, ask_queue
from modpo_hpc.launch.submissions import QueueJournal, Submission, read_journal
from modpo_hpc.pipeline import STAGES
from modpo_hpc.run import Run

State = Literal["done", "running", "queued", "blocked", "failed", "cancelled", "stale", "todo", "unknown"]
STATES: tuple[State, ...] = ("done", "running", "queued", "blocked", "failed", "cancelled", "stale", "todo", "unknown")
SILENT_SECONDS = 120.0


@dataclass(frozen=True)
class StageSurvey:
    """The markers of one stage, and which of them are of shards that are done."""

    markers: dict[str, MarkerLine]
    done: set[str]


@dataclass(frozen=True)
class ShardState:
    """Where one shard stands.

    ``slurm`` is Slurm's word for its job, ``note`` a disagreement worth a look, ``reason`` why its job waits;
    ``when`` is the end of one that has ended, and the start that Slurm expects for one that waits.
    """

    stage: str
    shard: str
    state: State
    job: str | None = None
    slurm: str = ""
    node: str = ""
    when: float | None = None
    note: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A run at one instant.

    ``silent`` says why nothing is known of the queue, if so; ``unseen`` are the jobs that cannot be looked at from
    here: all of them then, else those on another cluster, and those whose number a stranger's job has.
    """

    run: Run
    survey: dict[str, StageSurvey]
    journal: QueueJournal
    queue: dict[str, QueueLine]
    records: dict[str, list[JobRecord]] | None
    shards: dict[str, dict[str, ShardState]]
    silent: str = ""
    unseen: frozenset[str] = frozenset()
    facts: ClusterFacts | None = None
    taken: float = field(default_factory=time.time)

    def alive(self, stage: str, without: Collection[str] = ()) -> dict[str, str]:
        """Shard -> job, of those that are queued or running and can still end well, and not among ``without``."""
        return {
            shard: state.job
            for shard, state in self.shards[stage].items()
            if state.job and state.job not in without
            if (line := self.queue.get(state.job)) and line.alive and not line.stuck
        }

    def incomplete(self) -> dict[str, set[str]]:
        """Stage -> shards without a fresh result."""
        return {
            stage: {shard for shard, one in states.items() if one.state != "done"}
            for stage, states in self.shards.items()
        }

    def records_of(self, job: str | None) -> list[JobRecord]:
        """What sacct keeps of ``job``, if it keeps anything."""
        return (self.records or {}).get(job or "", [])


def take_snapshot(run: Run, wait: float = 0.0) -> Snapshot:
    """Look at the markers, the journal, squeue and sacct, at the same time.

    A controller that does not answer in ``wait`` seconds leaves what the markers and the attempts say.
    """
    journal = read_journal(run)
    jobs = [submission.job for submission in journal.submissions]
    silent, facts, queue, records = "", None, list[QueueLine](), None
    if jobs and available():
        with ThreadPoolExecutor(3) as pool:
            facts_answer = pool.submit(ask_facts, wait)
            queue_answer = pool.submit(ask_queue, jobs, wait)
            account_answer = pool.submit(ask_accounting, jobs, journal.since)
            found = survey(run)
            records = account_answer.result()
            try:
                queue, facts = queue_answer.result(), facts_answer.result()
            except SlurmError as error:
                silent = str(error)
    else:
        found = survey(run)
        silent = "there are no Slurm commands on this machine" if jobs else ""
    unseen = unseen_jobs(journal.submissions, queue, facts.name if facts else "", bool(silent))
    by_job = {line.job: line for line in queue if array_of(line.job) not in unseen}
    records_of = None if records is None else _by_job(records, journal.submissions, unseen if facts else frozenset())
    states = {
        stage.name: _stage_shards(run, stage.name, found[stage.name], journal, by_job, records_of or {}, unseen)
        for stage in STAGES
    }
    return Snapshot(run, found, journal, by_job, records_of, states, silent, unseen, facts)


def unseen_jobs(
    submissions: Sequence[Submission], queue: Iterable[QueueLine], cluster: str, silent: bool
) -> frozenset[str]:
    """The jobs of ``submissions`` that cannot be looked at here: see :class:`Snapshot`."""
    if silent:
        return frozenset(one.job for one in submissions)
    comments = {one.job: one.comment for one in submissions if one.comment}
    elsewhere = {one.job for one in submissions if one.cluster and cluster and one.cluster != cluster}
    arrays = ((array_of(line.job), line.comment) for line in queue)
    return frozenset(elsewhere | {job for job, comment in arrays if comments.get(job, comment) != comment})


def survey(run: Run) -> dict[str, StageSurvey]:
    """Every marker of the run, read once, and which of the results fit what they are made from now."""
    inventory, found = run.inventory(), {}
    for stage in STAGES:
        lines = inventory.lines(stage.name)
        found[stage.name] = StageSurvey(lines, {shard for shard in lines if inventory.fresh(stage.name, shard)})
    return found


def reconcile(
    fresh: bool,
    stale: bool,
    job: str | None,
    line: QueueLine | None,
    records: Sequence[JobRecord] | None,
    cancelled: bool,
    unseen: bool = False,
) -> tuple[State, str, str]:
    """State, Slurm's word and a note for one shard.

    A marker outranks Slurm: the data are whole. Then squeue, which is never late; then sacct, whose line for a
    requeued job keeps an old state for a while.
    """
    last = max(records or (), key=lambda record: (record.submit or 0, record.start or 0), default=None)
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
    if unseen and (last is None or last.alive):
        return "unknown", "", "its job cannot be looked at from here"
    if word == "COMPLETED":
        if stale:
            return "stale", word, ""
        return "failed", word, "COMPLETED without a marker"
    if last is not None and last.alive and line is None:
        return "failed", word, f"sacct says {word}, squeue does not know it"
    return "failed", word, "" if word else "left the queue without a marker"


def _stage_shards(
    run: Run,
    stage: str,
    found: StageSurvey,
    journal: QueueJournal,
    queue: Mapping[str, QueueLine],
    records: Mapping[str, list[JobRecord]],
    unseen: Collection[str],
) -> dict[str, ShardState]:
    submitted, attempted = journal.latest(stage), attempted_shards(run.logs, stage)
    states = {}
    for shard in run.shard_ids(stage):
        submission, job = submitted.get(shard, (None, None))
        if job is None and shard not in attempted:  # most shards of a large stage: what its markers say is all
            known: State = "done" if shard in found.done else "stale" if shard in found.markers else "todo"
            states[shard] = ShardState(stage, shard, known)
            continue
        line, mine = queue.get(job or ""), records.get(job or "", [])
        fresh = shard in found.done
        cancelled = job is not None and (job in journal.cancelled or array_of(job) in journal.cancelled)
        hidden = submission is not None and submission.job in unseen
        state, word, note = reconcile(fresh, shard in found.markers, job, line, mine, cancelled, hidden)
        if submission is not None and submission.pack > 1 and fresh:
            note = ""  # the job may have failed in another of its shards
        last = max(mine, key=lambda record: record.submit or 0, default=None)
        node = line.nodes if line is not None and line.nodes else last.nodes if last else ""
        when = last.end if last else line.end if line is not None else None
        reason = ""
        if line is not None and state in ("queued", "running"):
            reason, when = line.reason, line.start
        one = ShardState(stage, shard, state, job, word, node, when, note, reason)
        if shard in attempted and state in ("todo", "stale", "failed", "cancelled", "unknown"):
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
    if one.state == "unknown" and last.job == one.job and last.outcome in ("failed", "bad input", "incomplete"):
        return ShardState(one.stage, one.shard, "failed", one.job, "", last.node, last.ended)
    if one.state == "failed":
        return replace(one, node=one.node or last.node, when=one.when or last.ended)
    return one


def _lives_here(attempt: Attempt) -> bool:
    """Whether the process of ``attempt`` runs on this machine; one on another machine is judged by its age."""
    if attempt.node != this_node():
        return time.time() - attempt.started < SILENT_SECONDS
    return psutil.pid_exists(attempt.pid)


def _by_job(
    records: Sequence[JobRecord], submissions: Sequence[Submission], unseen: Collection[str]
) -> dict[str, list[JobRecord]]:
    """Job -> its records; those of strangers' jobs of the same number are left out."""
    stages = {one.job: one.stage for one in submissions}
    found: dict[str, list[JobRecord]] = {}
    for record in records:
        array = array_of(record.job)
        if array not in unseen and record.name.startswith(f"{stages.get(array, '')}."):
            found.setdefault(record.job, []).append(record)
    return found
