"""What a person sees while shards run: a bar a stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import ast
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from modpo_hpc.core.scratch import SCRATCH
from modpo_hpc.launch.entry import HEARTBEAT, metrics_in_words
from modpo_hpc.launch.local import Task
from modpo_hpc.pipeline import Stage, stage_named
from modpo_hpc.resources import resource
from modpo_hpc.run import Run

if TYPE_CHECKING:
    from rich.progress import Progress


REFRESH_SECONDS = 0.5
WIDTH_OF_BARS = 64
"""What a row takes beside its note, which would otherwise push the bar away."""


def purpose(stage: str) -> str:
    """What a stage does: the first line of its recipe."""
    words = ast.get_docstring(ast.parse(resource(f"jobs/{stage_named(stage).verb}.py").read_text(encoding="utf-8")))
    return (words or "").partition("\n")[0]


class Follower:
    """Hears of every change of a task, and shows none itself: when a stage began, which shards of it are done."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._finished: dict[str, set[str]] = {}
        self._since: dict[str, float] = {}

    def changed(self, task: Task) -> None:
        finished = self.finished(task.stage)
        (finished.add if task.state in ("done", "taken") else finished.discard)(task.shard)
        if task.state == "running" and task.stage not in self._since:
            self._since[task.stage] = time.monotonic()
            self.began(task.stage)

    def began(self, stage: str) -> None:
        """The first shard of ``stage`` runs."""

    def finished(self, stage: str) -> set[str]:
        """The shards of ``stage`` that are done: one that is made again is not, until it is made."""
        if stage not in self._finished:
            self._finished[stage] = set(self._run.done(stage))
        return self._finished[stage]


@contextmanager
def follow(run: Run, stages: Sequence[Stage]) -> Iterator[Follower]:
    """Show the progress of ``stages`` for as long as the block runs."""
    if not sys.stdout.isatty():
        yield _Lines(run)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    ) as bars:
        follower = _Bars(run, stages, bars)
        try:
            yield follower
        finally:
            follower.stop()


class _Lines(Follower):
    """One line a change, each usable alone."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._made: Counter[str] = Counter()

    def changed(self, task: Task) -> None:
        super().changed(task)
        if task.state == "taken":
            say_stamped(f"{task.stage} {task.shard} was made before and is taken over")
        elif task.state == "done":
            self._made[task.stage] += 1
            say_stamped(f"{task.stage} {task.shard} done ({self._counts(task.stage)})")
        elif task.state == "failed":
            say_stamped(f"{task.stage} {task.shard} failed (log {task.log})")

    def began(self, stage: str) -> None:
        say_stamped(f"{stage}: {purpose(stage)}")

    def _counts(self, stage: str) -> str:
        total, finished = len(self._run.shard_ids(stage)), len(self.finished(stage))
        if finished >= total:
            return f"{finished} of {total}"
        each = max(1e-3, time.monotonic() - self._since[stage]) / self._made[stage]
        return f"{finished} of {total}, {60 / each:.0f} a minute, {duration(each * (total - finished))} left"


class _Bars(Follower):
    """A bar a stage; running shards count by how far their heartbeat says they are."""

    def __init__(self, run: Run, stages: Sequence[Stage], bars: Progress) -> None:
        super().__init__(run)
        self._bars = bars
        self._rows: dict[str, Any] = {}
        self._tasks: dict[tuple[str, str], Task] = {}
        for stage in stages:
            if total := len(run.shard_ids(stage.name)):
                done = len(self.finished(stage.name))
                self._rows[stage.name] = bars.add_task(stage.name, total=total, completed=done, start=False, note="")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)
        self._thread.start()

    def changed(self, task: Task) -> None:
        self._tasks[task.stage, task.shard] = task
        super().changed(task)
        self._bars.update(self._rows[task.stage], completed=len(self.finished(task.stage)))

    def began(self, stage: str) -> None:
        self._bars.console.print(f"[bold]{stage}[/]: {purpose(stage)}", highlight=False)
        self._bars.start_task(self._rows[stage])

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        for stage in self._rows:
            self._note(stage)

    def _refresh(self) -> None:
        while not self._end.wait(REFRESH_SECONDS):
            for stage in list(self._since):
                self._note(stage)

    def _note(self, stage: str) -> None:
        mine = [task for (name, _), task in list(self._tasks.items()) if name == stage]
        count = Counter(task.state for task in mine)
        running = [
            beat for task in mine if task.state == "running" and (beat := heartbeat(self._run, stage, task.shard))
        ]
        notes = [f"{count[state]} {state}" for state in ("running", "failed", "blocked") if count[state]]
        part = sum(beat["done"] / max(1, beat["total"]) for beat in running)
        finished, left = count["done"] + part, len(mine) - count["done"] - count["failed"] - part
        if finished > 0 and count["running"] and stage in self._since and len(mine) > 1:
            notes.append(f"{duration((time.monotonic() - self._since[stage]) / finished * left)} left")
        if running:
            notes.append(describe_beat(running[-1]))
        room = max(20, self._bars.console.width - WIDTH_OF_BARS)
        self._bars.update(self._rows[stage], note=shorten(", ".join(notes), room, placeholder=" ..."))


def say_stamped(text: str, stderr: bool = False) -> None:
    """Print a line that begins with the time of day, at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr if stderr else None, flush=True)


def heartbeat(run: Run, stage: str, shard: str) -> dict[str, Any] | None:
    """What a running shard last said of itself: done, total, unit and its metrics."""
    try:
        state: dict[str, Any] = json.loads((run.folder(stage) / SCRATCH / shard / HEARTBEAT).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state


def describe_beat(beat: dict[str, Any]) -> str:
    """A heartbeat in words: ``step 40 of 200, loss 0.61``."""
    parts = [f"{beat['done']:,}/{beat['total']:,} {beat['unit']}"]
    if (left := beat.get("seconds_left")) is not None:
        parts.append(f"{duration(left)} left")
    return ", ".join(parts + metrics_in_words({key: one for key, one in beat.items() if key != "seconds_left"}))


def duration(seconds: float) -> str:
    """Seconds as people say them: ``42 s``, ``3 min 20 s``, ``5 h 12 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
