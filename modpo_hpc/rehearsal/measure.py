"""What a rehearsed run left behind, and what it took: read from markers and folders, changing nothing."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modpo_hpc.pipeline import STAGES
from modpo_hpc.rehearsal.standins import STAND_IN_SECONDS
from modpo_hpc.run import Run


@dataclass(frozen=True)
class StageCost:
    """One stage, its shards together. Seconds are wall seconds of the shards, summed; memory is the largest."""

    stage: str
    shards: int
    rows: int
    bytes: int
    seconds: float
    stand_in_seconds: float
    cpu_seconds: float
    longest_seconds: float
    peak_memory_gb: float

    @property
    def own_seconds(self) -> float:
        """Time in the project's own code: all but the stand-ins'."""
        return self.seconds - self.stand_in_seconds


@dataclass(frozen=True)
class Footprint:
    """Files and bytes under a folder; ``fullest`` is the largest number of entries in one folder, and where."""

    files: int
    folders: int
    bytes: int
    fullest: int
    fullest_folder: str


def stage_costs(run: Run) -> list[StageCost]:
    """The cost of every stage that has finished shards, in the order in which work flows."""
    costs = []
    for stage in STAGES:
        if not (markers := list(run.done(stage.name).values())):
            continue
        metrics = [one.metrics for one in markers]
        costs.append(
            StageCost(
                stage=stage.name,
                shards=len(markers),
                rows=sum(one.rows for one in markers),
                bytes=sum(output.bytes for one in markers for output in one.outputs.values()),
                seconds=sum(one.seconds for one in markers),
                stand_in_seconds=sum(one.get(STAND_IN_SECONDS, 0.0) for one in metrics),
                cpu_seconds=sum(one.get("cpu_seconds", 0.0) for one in metrics),
                longest_seconds=max(one.seconds for one in markers),
                peak_memory_gb=max(one.get("peak_memory_gb", 0.0) for one in metrics),
            )
        )
    return costs


def footprint(root: Path) -> Footprint:
    """Count what is under ``root``; what vanishes meanwhile is not counted."""
    files = folders = size = 0
    entries: Counter[str] = Counter()
    queue = [str(root)]
    while queue:
        folder = queue.pop()
        folders += 1
        try:
            with os.scandir(folder) as found:
                for one in found:
                    entries[folder] += 1
                    if one.is_dir(follow_symlinks=False):
                        queue.append(one.path)
                    else:
                        files += 1
                        size += one.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    fullest, count = entries.most_common(1)[0] if entries else (str(root), 0)
    return Footprint(files, folders, size, count, os.path.relpath(fullest, root))


@contextmanager
def watched(root: Path, seconds: float = 5.0) -> Iterator[list[Footprint]]:
    """What is under ``root`` every few seconds while the block runs, and once at its end."""
    seen, over = list[Footprint](), threading.Event()

    def watch() -> None:
        while not over.wait(seconds):
            seen.append(footprint(root))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
        seen.append(footprint(root))
