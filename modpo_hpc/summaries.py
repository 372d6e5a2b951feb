"""What the markers of a stage come to, kept beside them once the stage is complete.

Each shard looks whether all is there that it needs. If each read every marker for that, a stage of n shards behind
another of n would read n x n files. So the first that has read them all writes down what they come to, and the state
of the folder in which they stand: markers are only ever added, replaced or removed by name, and each of these changes
that state. While it is the same, the others read one small file and know as much.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from modpo_hpc import shards
from modpo_hpc.seeds import seed_of

FILE = ".markers.json"
# The coarsest clock of a filesystem in use ticks once a second (Lustre). Two changes within one tick look like one,
# so a folder counts as still only when its last change was well before the first marker was read.
STILL_SECONDS = 3.0

FolderState = tuple[int, int, int]


@dataclass(frozen=True)
class MarkerSummary:
    """The markers of a stage: their ``digest``, every ``inputs`` among them, and how many shards have none."""

    digest: str
    inputs: tuple[str, ...]
    missing: int

    def complete(self, inputs: str) -> bool:
        """Whether every shard is done: made from these ``inputs``, or imported."""
        return not self.missing and set(self.inputs) <= {inputs, shards.IMPORTED}


def read_summary(stage_folder: Path, shard_ids: Sequence[str]) -> MarkerSummary | None:
    """The summary that was kept, if the markers are those that it was made of."""
    return _kept(stage_folder, shard_ids, _state_of(stage_folder / shards.MARKERS))


def summarise_markers(stage_folder: Path, shard_ids: Sequence[str]) -> MarkerSummary:
    """The summary of all markers: the one that was kept, else made anew and, if the stage is complete, kept."""
    before, clock = _state_of(stage_folder / shards.MARKERS), time.monotonic_ns()
    if kept := _kept(stage_folder, shard_ids, before):
        return kept
    markers = [one for shard in shard_ids if (one := shards.read_marker(stage_folder, shard)) is not None]
    inputs = tuple(sorted({marker.inputs for marker in markers}))
    summary = MarkerSummary(shards.digest(markers), inputs, len(shard_ids) - len(markers))
    if before is not None and not summary.missing and _was_still(stage_folder, before, clock):
        with shards.atomic_file(stage_folder / shards.SCRATCH / FILE, "w") as stream:
            json.dump({**asdict(summary), "shards": _name_of(shard_ids), "folder": before}, stream)
    return summary


def _kept(stage_folder: Path, shard_ids: Sequence[str], folder: FolderState | None) -> MarkerSummary | None:
    try:
        raw = json.loads((stage_folder / shards.SCRATCH / FILE).read_bytes())
    except FileNotFoundError:
        return None
    if folder is None or tuple(raw.pop("folder")) != folder or raw.pop("shards") != _name_of(shard_ids):
        return None
    return MarkerSummary(raw["digest"], tuple(raw["inputs"]), raw["missing"])


def _state_of(folder: Path) -> FolderState | None:
    """What changes whenever a name in ``folder`` does; None if there is no such folder.

    The folder is opened, not only looked at: on NFS that asks the server instead of a cache.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _was_still(stage_folder: Path, before: FolderState, clock: int) -> bool:
    """Whether the markers' folder did not change from well before ``clock`` until now, by the filesystem's own time."""
    (stage_folder / shards.SCRATCH).mkdir(exist_ok=True)
    with tempfile.TemporaryFile(dir=stage_folder / shards.SCRATCH) as probe:
        began = os.fstat(probe.fileno()).st_mtime_ns - (time.monotonic_ns() - clock)
    still = began - max(before[1:]) > STILL_SECONDS * 1e9
    return still and _state_of(stage_folder / shards.MARKERS) == before


def _name_of(shard_ids: Sequence[str]) -> int:
    return seed_of(*shard_ids)
