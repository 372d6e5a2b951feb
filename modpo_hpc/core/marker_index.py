"""The markers of a stage, all at once: what each comes to in a line, kept beside them so that 50,000 are read quickly.

A marker is a file of its own, written once and replaced whole. What was read of it is kept in one file with its inode,
time of change and size; the next reader looks at the folder, reads what is new, and takes the rest from there. While
the folder itself has not changed, not even the single files are looked at.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from modpo_hpc.core.atomic import write_text
from modpo_hpc.core.markers import IMPORTED, MARKERS, Marker, digest, read_marker
from modpo_hpc.core.scratch import SCRATCH

FILE = ".markers.json"
KEPT_FROM = 16
"""New lines that are worth writing the file again."""
# The coarsest clock of a filesystem in use ticks once a second (Lustre). Two changes within one tick look like one,
# so a folder counts as still only when its last change was well before the first marker was read.
STILL_SECONDS = 3.0


class MarkerLine(NamedTuple):
    """What is asked of a finished shard most often. ``digest`` stands for the bytes of all its outputs."""

    inputs: str
    digest: str
    rows: int
    outputs: int
    started: float
    seconds: float
    code: str
    snapshots: dict[str, dict[str, int]]

    def fits(self, inputs: str | None) -> bool:
        """Whether the shard is done: made from these ``inputs``, or imported."""
        return self.inputs in (inputs, IMPORTED)


Signature = tuple[int, int, int]


def read_line(stage_folder: Path, shard: str) -> MarkerLine | None:
    """The line of one marker; None if the shard is not finished."""
    marker = read_marker(stage_folder, shard)
    return None if marker is None else line_of(marker)


def line_of(marker: Marker) -> MarkerLine:
    """What ``marker`` comes to."""
    return MarkerLine(
        marker.inputs,
        digest([marker])[:16],
        marker.rows,
        len(marker.outputs),
        marker.started,
        marker.seconds,
        str(marker.code.get("digest", "")),
        marker.snapshots,
    )


def read_lines(stage_folder: Path, shard_ids: Collection[str]) -> dict[str, MarkerLine]:
    """Shard -> the line of its marker, of those among ``shard_ids`` that are finished.

    Raises:
        InputError: a marker is damaged.
    """
    folder = stage_folder / MARKERS
    before, clock = _state_of(folder), time.monotonic_ns()
    if before is None:
        return {}
    kept_state, kept = _kept(stage_folder)
    if kept_state == before:
        return {one: kept[one][1] for one in shard_ids if one in kept}
    lines: dict[str, tuple[Signature, MarkerLine]] = {}
    new = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if not name.endswith(".json") or name.startswith("."):
                continue
            try:
                found = entry.stat()
            except FileNotFoundError:
                continue
            shard, signature = name[:-5], (found.st_ino, found.st_mtime_ns, found.st_size)
            known = kept.get(shard)
            if known is not None and known[0] == signature:
                lines[shard] = known
            elif (line := read_line(stage_folder, shard)) is not None:
                lines[shard], new = (signature, line), new + 1
    still = _was_still(stage_folder, before, clock)
    if new >= KEPT_FROM or (still and len(lines) >= KEPT_FROM and kept_state != before):
        _keep(stage_folder, before if still else None, lines)
    return {one: lines[one][1] for one in shard_ids if one in lines}


def _kept(stage_folder: Path) -> tuple[Signature | None, dict[str, tuple[Signature, MarkerLine]]]:
    try:
        raw = json.loads((stage_folder / SCRATCH / FILE).read_bytes())
        lines = {name: (tuple(one[:3]), MarkerLine(*one[3:])) for name, one in raw["lines"].items()}
        return (tuple(raw["folder"]) if raw["folder"] else None), lines
    except (OSError, ValueError, TypeError, KeyError):
        return None, {}


def _keep(stage_folder: Path, state: Signature | None, lines: dict[str, tuple[Signature, MarkerLine]]) -> None:
    with suppress(OSError):  # one who may only look at a run looks at every marker
        content = {"folder": state, "lines": {name: [*one[0], *one[1]] for name, one in lines.items()}}
        write_text(stage_folder / SCRATCH / FILE, json.dumps(content), durable=False)


def _state_of(folder: Path) -> Signature | None:
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


def _was_still(stage_folder: Path, before: Signature, clock: int) -> bool:
    """Whether the markers' folder did not change from well before ``clock`` until now, by the filesystem's own time."""
    try:
        (stage_folder / SCRATCH).mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=stage_folder / SCRATCH) as probe:
            began = os.fstat(probe.fileno()).st_mtime_ns - (time.monotonic_ns() - clock)
    except OSError:
        return False
    still = began - max(before[1:]) > STILL_SECONDS * 1e9
    return still and _state_of(stage_folder / MARKERS) == before
