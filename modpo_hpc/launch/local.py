"""The local executor: shards in processes of their own, as many at once as the machine holds.

Every shard runs in a fresh process forked from a server that has imported the heavy packages once, so a shard starts
in milliseconds and one that dies takes nothing with it. A shard may start as soon as what it reads is done; among those
that may, the one goes first behind which the most stages wait in a row, so that no core is idle at the end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal

import psutil

from modpo_hpc.core import studies
from modpo_hpc.core.reuse import shelves_of, take
from modpo_hpc.launch import shard_process
from modpo_hpc.launch.attempts import claim_attempt
from modpo_hpc.pipeline import Stage, stage_named
from modpo_hpc.run import Run
from modpo_hpc.study.evaluation import Resources

POLL_SECONDS = 0.25
GRACE_SECONDS = 20.0
State = Literal["waiting", "running", "done", "taken", "failed", "blocked"]


@dataclass
class Task:
    """One shard on its way."""

    stage: str
    shard: str
    resources: Resources
    ahead: int = 0
    """Stages that wait in a row for it."""
    state: State = "waiting"
    log: Path | None = None
    exit_code: int | None = None
    started: float = 0.0
    process: ForkServerProcess | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Capacity:
    """What the executor may use of this machine at once."""

    cpus: int
    memory_gb: float

    @classmethod
    def of_this_machine(cls, jobs: int | None = None) -> Capacity:
        """The CPUs this process may use (or ``jobs``), and most of the memory that is free now."""
        cpus = len(os.sched_getaffinity(0)) if jobs is None else jobs
        return cls(max(1, cpus), max(1.0, psutil.virtual_memory().available / 2**30 * 0.9))


@dataclass(frozen=True)
class _ShardGroup:
    """Shards that read the same: all shards of the stages ``whole``, and ``single`` ones of others.

    Those that the stage ``reads_too`` are waited for like ``whole`` ones; where they fail, the shards go on without.
    """

    stage: Stage
    shards: tuple[str, ...]
    whole: tuple[str, ...]
    single: tuple[tuple[str, str], ...]
    ahead: int


class LocalExecutor:
    """Runs the missing shards of ``stages`` of one run; ``on_change`` hears of every change of a task."""

    def __init__(self, run: Run, capacity: Capacity, on_change: Callable[[Task], None] = lambda _: None) -> None:
        self._run, self.capacity, self._on_change = run, capacity, on_change
        self.tasks: list[Task] = []
        self.running: list[Task] = []
        self._waiting: list[Task] = []
        self._open: set[tuple[str, str]] = set()
        self._open_in: Counter[str] = Counter()
        self._broken: set[tuple[str, str]] = set()
        self._again = False
        self._context = multiprocessing.get_context("forkserver")

    def run(
        self, stages: Sequence[Stage], only: Iterable[tuple[str, str]] | None = None, again: bool = False
    ) -> list[Task]:
        """Make what is missing of ``stages`` (or, of it, the (stage, shard) pairs in ``only``); returns what failed.

        A shard starts as soon as the shards that it reads are done. A failed one stops what reads it, and nothing
        else. With ``again``, finished shards are made anew. A stop (Ctrl-C, SIGTERM) lets every running shard end its
        batch and save its state.
        """
        self._again = again
        groups = self._groups(stages, None if only is None else set(only))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with studies.at_work(self._run.root):
                groups = self._advance(groups)
                left = {task.stage for task in self._waiting} | {group.stage.name for group in groups}
                with_models = any(stage.uses_models for stage in stages if stage.name in left)
                self._context.set_forkserver_preload(list(shard_process.preloaded(with_models)))
                while groups or self._waiting or self.running:
                    self._start()
                    self._pause()
                    if self._collect():
                        groups = self._advance(groups)
        except (KeyboardInterrupt, SystemExit):
            self._stop()
            raise
        return [task for task in self.tasks if task.state in ("failed", "blocked")]

    def _groups(self, stages: Sequence[Stage], only: set[tuple[str, str]] | None) -> list[_ShardGroup]:
        found: dict[tuple[str, str], list[str]] = {}
        for stage in stages:
            for shard in self._run.shard_ids(stage.name):
                if only is None or (stage.name, shard) in only:
                    found.setdefault((stage.name, stage.item(shard)), []).append(shard)
                    self._open.add((stage.name, shard))
                    self._open_in[stage.name] += 1
        groups = []
        behind: Counter[object] = Counter()
        for (name, item), shards in reversed(found.items()):
            stage = stage_named(name)
            needs = stage.needs_of_item(self._run.full_study, item)
            whole = tuple(need for need, chosen in needs.items() if chosen is None and need not in stage.reads_too)
            single = tuple((need, shard) for need, chosen in needs.items() for shard in chosen or ())
            ahead = max(behind[name], *(behind[name, shard] for shard in shards))
            for need in (*whole, *single, *stage.reads_too):
                behind[need] = max(behind[need], ahead + 1)
            groups.append(_ShardGroup(stage, tuple(shards), whole, single, ahead))
        return groups[::-1]

    def _advance(self, groups: list[_ShardGroup]) -> list[_ShardGroup]:
        """Plan the groups of which everything is there, block those that never will be; returns the others."""
        moved = True
        while moved:
            moved, left = False, []
            for group in groups:
                if self._broken and self._reads_broken(group):
                    self._block(group)
                    moved = True
                elif self._ready(group):
                    moved |= self._plan(group)
                else:
                    left.append(group)
            groups = left
        self._waiting.sort(key=lambda task: -task.ahead)
        return groups

    def _ready(self, group: _ShardGroup) -> bool:
        hopeless = Counter(stage for stage, _ in self._broken)
        if any(self._open_in[stage] > hopeless[stage] for stage in group.stage.reads_too):
            return False
        return not any(self._open_in[stage] for stage in group.whole) and self._open.isdisjoint(group.single)

    def _reads_broken(self, group: _ShardGroup) -> bool:
        return any(stage in group.whole for stage, _ in self._broken) or not self._broken.isdisjoint(group.single)

    def _plan(self, group: _ShardGroup) -> bool:
        """Put what is missing of ``group`` on the list; returns whether something is there already."""
        name, finished = group.stage.name, False
        shelves = shelves_of(self._run)
        inventory = self._run.inventory(shelves)
        resources = group.stage.resources(self._run.study)
        for shard in group.shards:
            task = Task(name, shard, resources, group.ahead)
            if not self._again and inventory.fresh(name, shard):
                self._close(name, shard)
                finished = True
            elif not self._again and take(self._run, name, shard, inventory, shelves) is not None:
                self._close(name, shard)
                task.state, finished = "taken", True
                self._tell(task)
            else:
                self._waiting.append(task)
                self._tell(task)
        return finished

    def _block(self, group: _ShardGroup) -> None:
        for shard in group.shards:
            self._broken.add((group.stage.name, shard))
            self._tell(Task(group.stage.name, shard, group.stage.resources(self._run.study), state="blocked"))

    def _tell(self, task: Task) -> None:
        self.tasks.append(task)
        self._on_change(task)

    def _close(self, stage: str, shard: str) -> None:
        self._open.discard((stage, shard))
        self._open_in[stage] -= 1

    def _start(self) -> None:
        cpus = self.capacity.cpus - sum(task.resources.cpus for task in self.running)
        memory = self.capacity.memory_gb - sum(task.resources.memory_gb for task in self.running)
        passed_over: list[Task] = []
        for task in self._waiting:
            fits = task.resources.cpus <= cpus and task.resources.memory_gb <= memory
            if not fits and self.running:
                passed_over.append(task)
                continue
            cpus, memory = cpus - task.resources.cpus, memory - task.resources.memory_gb
            attempt, task.log = claim_attempt(self._run.logs, task.stage, task.shard)
            made = (str(self._run.root), task.stage, task.shard, str(task.log), attempt, self._again, dict(os.environ))
            task.process = self._context.Process(target=shard_process.main, args=made, daemon=False)
            task.process.start()
            task.state, task.started = "running", time.monotonic()
            self.running.append(task)
            self._on_change(task)
        self._waiting = passed_over

    def _collect(self) -> bool:
        """Take note of what has ended; returns whether anything has."""
        ended = [task for task in self.running if task.process is not None and task.process.exitcode is not None]
        self.running = [task for task in self.running if task not in ended]
        for task in ended:
            assert task.process is not None
            task.process.join()
            task.exit_code = task.process.exitcode
            task.process.close()
            task.process = None
            if task.exit_code == 0:
                task.state = "done"
                self._close(task.stage, task.shard)
            else:
                task.state = "failed"
                self._broken.add((task.stage, task.shard))
            self._on_change(task)
        return bool(ended)

    def _pause(self) -> None:
        sentinels = [task.process.sentinel for task in self.running if task.process is not None]
        if sentinels:
            wait(sentinels, timeout=POLL_SECONDS)

    def _stop(self) -> None:
        for sign, grace in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 5.0)):
            for task in self.running:
                if task.process is not None and task.process.pid is not None and task.process.is_alive():
                    os.kill(task.process.pid, sign)
            end = time.monotonic() + grace
            while self.running and time.monotonic() < end:
                self._pause()
                self._collect()


def last_words(log: Path, lines: int = 3) -> str:
    """The last lines that a shard wrote, for an error message."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError as error:
        return f"(no log: {error.strerror})"
    return "\n".join(text[-lines:])
