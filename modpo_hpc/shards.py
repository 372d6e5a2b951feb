"""Shards: what one worker makes, written so that nothing half-made can be taken for data.

A shard is done when its marker says so. Its outputs are written to temporary names in the folder where they
belong, flushed to disk and renamed; the marker, a small manifest, comes last. Whatever an attempt leaves when it
dies is either invisible to readers (temporary names, the scratch folder) or complete.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from modpo_hpc.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

IMPORTED = "imported"
"""``Marker.inputs`` of what was brought in from outside: it rests on nothing here, and so is never stale."""
MARKERS = "markers"
SCRATCH = ".work"


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
    software that made it, ``source`` the run that it was taken from, if it was not made here.
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

    def fits(self, inputs: str) -> bool:
        """Whether the shard is done: made from these ``inputs``, or imported."""
        return self.inputs in (inputs, IMPORTED)

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
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, "w") as stream:
        json.dump(asdict(marker), stream, indent=1, sort_keys=True)


def digest(markers: Iterable[Marker]) -> str:
    """One hash for what a set of shards made: changes when a byte of any output changes."""
    total = hashlib.sha256()
    for marker in sorted(markers, key=lambda one: one.shard):
        for name, output in sorted(marker.outputs.items()):
            total.update(f"{marker.shard}\x1f{name}\x1f{output.sha256}\n".encode())
    return total.hexdigest()


@contextmanager
def atomic_file(path: Path, mode: str = "wb", durable: bool = True) -> Iterator[IO[Any]]:
    """A stream that becomes ``path`` when the block ends well, and leaves nothing behind otherwise.

    With ``durable`` it is on disk before it gets its name; what a restart can do without may skip that.
    """
    temporary = _temporary(path)
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder that becomes ``path`` when the block ends well; an older one at that place is replaced."""
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in (one for one in temporary.rglob("*") if one.is_file()):
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if path.exists():
            old = _temporary(path)
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def describe_output(path: Path, rows: int | None = None) -> Output:
    """Size and hash of the file ``path``."""
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    return Output(path.stat().st_size, total.hexdigest(), rows)


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


class Journal:
    """Append-only JSON lines that survive a kill: what is read back was written whole.

    A torn last line is cut off when the journal is opened. ``append`` returns when the lines are on disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0
        if path.exists():
            with open(path, "rb") as stream:
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    try:
                        self.rows.append(json.loads(line))
                    except ValueError:
                        break
                    whole += len(line)
        self._stream = open(path, "ab")  # noqa: SIM115 - closed by close()
        self._stream.truncate(whole)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add ``rows`` and wait until they are on disk."""
        new = [dict(row) for row in rows]
        self._stream.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in new))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.rows.extend(new)

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def scratch_folder(stage_folder: Path, shard: str, inputs: str) -> Iterator[Path]:
    """The folder in which an attempt keeps what its successor can resume from.

    What an attempt with other ``inputs`` left there is thrown away first.

    One attempt owns it at a time (an advisory lock, released by the kernel when the owner dies). A second attempt
    that runs at the same time gets a folder of its own, so two writers cannot harm each other.
    """
    base = stage_folder / SCRATCH
    base.mkdir(parents=True, exist_ok=True)
    with open(base / f"{shard}.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = base / shard
        except OSError:
            folder = base / f"{shard}.{socket.gethostname()}.{os.getpid()}"
        origin = folder / "inputs"
        if folder.exists() and not (origin.exists() and origin.read_text() == inputs):
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        with atomic_file(origin, "w") as stream:
            stream.write(inputs)
        yield folder


def discard_scratch(stage_folder: Path, shard: str, folder: Path) -> None:
    """Remove the scratch ``folder`` of a finished shard, and its lock."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.name == shard:
        (stage_folder / SCRATCH / f"{shard}.lock").unlink(missing_ok=True)


def check_shard_id(shard: str) -> str:
    """``shard`` itself, if it is safe as a file name.

    Raises:
        InputError: it is not.
    """
    allowed = shard and shard[0].isalnum() and all(one.isalnum() or one in "._-" for one in shard)
    if not allowed or not shard.isascii():
        raise InputError(
            "a shard id holds letters, digits, '.', '_' and '-' only",
            value=shard,
            remedy="Rename what it is made of.",
        )
    return shard


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}.tmp")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network filesystems know no fsync of a folder; the file itself is on disk, and has its name.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(descriptor)
