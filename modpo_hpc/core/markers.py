"""Markers: a shard is done when its marker says so.

Its outputs are written to temporary names in the folder where they belong, flushed to disk and renamed; the marker, a
small manifest, comes last. Whatever an attempt leaves when it dies is either invisible to readers (temporary names, the
scratch folder) or complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modpo_hpc.core.atomic import write_text
from modpo_hpc.core.contents import sha256_of
from modpo_hpc.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

IMPORTED = "imported"
"""``Marker.inputs`` of what was brought in from outside: it rests on nothing here, and so is never stale."""
MARKERS = "markers"


@dataclass(frozen=True)
class Output:
    """One file that a shard made: its size in bytes, SHA-256, and rows if it is a table."""

    bytes: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True)
class Marker:
    """The manifest of a finished shard.

    ``made_from`` names the document in ``DIR/made_from`` that says what ``inputs`` is the hash of, ``code`` the
    software that made it, ``source`` the run that it was taken from, if it was not made here. ``snapshots``: of each
    judge, how many judgments rest on each name by which its model called itself.
    """

    stage: str
    shard: str
    inputs: str
    outputs: dict[str, Output]
    started: float
    seconds: float
    host: str
    job: str | None
    attempt: int
    versions: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    made_from: str = ""
    code: dict[str, str] = field(default_factory=dict)
    source: str = ""
    snapshots: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of all tables of the shard."""
        return sum(output.rows or 0 for output in self.outputs.values())


def marker_path(stage_folder: Path, shard: str) -> Path:
    """Where the marker of ``shard`` stands."""
    return stage_folder / MARKERS / f"{shard}.json"


def read_marker(stage_folder: Path, shard: str) -> Marker | None:
    """The marker of ``shard``, or None if it is not finished.

    Raises:
        InputError: the file is damaged.
    """
    return read_marker_file(marker_path(stage_folder, shard))


def read_marker_file(path: Path) -> Marker | None:
    """The marker in the file ``path``; None if there is none. Raises as :func:`read_marker`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        raw = json.loads(content)
        raw["outputs"] = {name: Output(**output) for name, output in raw["outputs"].items()}
        return Marker(**raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"this marker is damaged ({len(content)} bytes; {error})",
            file=path,
            remedy=f"A full or failing disk does that. Remove the file; the shard {path.stem} is then made again.",
        ) from None


def write_marker(stage_folder: Path, marker: Marker) -> None:
    """Write ``marker`` atomically: from this instant the shard is done."""
    write_marker_file(marker_path(stage_folder, marker.shard), marker)


def write_marker_file(path: Path, marker: Marker) -> None:
    """Write ``marker`` atomically to the file ``path``."""
    write_text(path, json.dumps(asdict(marker), indent=1, sort_keys=True))


def digest(markers: Iterable[Marker]) -> str:
    """One hash for what a set of shards made: changes when a byte of any output changes."""
    total = hashlib.sha256()
    for marker in sorted(markers, key=lambda one: one.shard):
        for name, output in sorted(marker.outputs.items()):
            total.update(f"{marker.shard}\x1f{name}\x1f{output.sha256}\n".encode())
    return total.hexdigest()


def describe_output(path: Path, rows: int | None = None) -> Output:
    """Size and hash of the file ``path``."""
    return Output(path.stat().st_size, sha256_of(path), rows)


_verified: dict[Path, tuple[int, int, int]] = {}


def read_verified(path: Path, output: Output | None, columns: Sequence[str] | None, remedy: str) -> pa.Table:
    """The table in ``path``, whose bytes are those that its shard wrote (``output``).

    Raises:
        InputError: they are not: a disk, a copy or a person changed them.
    """
    import pyarrow.parquet as pq

    found = path.stat()
    state = (found.st_ino, found.st_mtime_ns, found.st_size)
    if output is None or _verified.get(path) == state:
        return pq.read_table(path, columns=columns, partitioning=None)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != output.sha256:
        raise InputError(
            "the bytes of this file are not those that its shard wrote",
            file=path,
            remedy=f"A failing disk, or a change by hand? Make it again: {remedy}",
        )
    _verified[path] = state
    import pyarrow as pa

    return pq.read_table(pa.BufferReader(content), columns=columns)
