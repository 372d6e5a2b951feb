"""Segments: append-only files of JSON lines, compressed, of which a kill can tear the last write only.

A segment is a chain of frames. Each frame is a skippable Zstandard frame (a small header: size and CRC-32 of what
follows) and a Zstandard frame of JSON lines, so ``zstdcat`` shows a segment as plain JSON lines. One process writes a
segment and holds a lock on it while it lives; no process ever writes to a segment of another.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modpo_hpc.shards import atomic_file

SUFFIX = ".jsonl.zst"
INDEX_SUFFIX = ".index.npy"
HIGH, LOW, OFFSET, ROW = range(4)
"""Rows of an index, uint64 of shape (4, keys): the halves of each key, the offset of its frame, its line in there."""

_MAGIC = 0x184D2A5D
_TAG = b"MLG1"
_HEADER = struct.Struct("<II4sIII")  # magic, size of the rest, tag, compressed size, plain size, CRC-32
_CODEC = "zstd"


@dataclass(frozen=True)
class Frame:
    """Where the lines of one write stand in a segment."""

    offset: int
    size: int
    plain: int
    checksum: int

    @property
    def end(self) -> int:
        return self.offset + _HEADER.size + self.size


@dataclass(frozen=True)
class Scan:
    """The whole frames of a segment, and the bytes that belong to none (a torn last write, or damage)."""

    frames: tuple[Frame, ...]
    lost_bytes: int


class SegmentWriter:
    """A new segment in ``folder``, and the only one who writes to it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{time.time_ns():020d}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.path = folder / f"{name}{SUFFIX}"
        self._stream = open(self.path, "xb", buffering=0)  # noqa: SIM115 - closed by close()
        fcntl.flock(self._stream, fcntl.LOCK_EX)
        self._index: list[np.ndarray] = []

    def append(self, keys: Sequence[bytes], rows: Sequence[dict[str, Any]]) -> None:
        """Add ``rows`` and return when they are on disk."""
        plain = b"".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for row in rows)
        packed = pa.compress(plain, codec=_CODEC, asbytes=True)
        header = _HEADER.pack(_MAGIC, _HEADER.size - 8, _TAG, len(packed), len(plain), zlib.crc32(packed))
        offset = self._stream.tell()
        block = memoryview(header + packed)
        while block:
            block = block[self._stream.write(block) :]
        os.fsync(self._stream.fileno())
        self._index.append(index_of(keys, offset))

    def close(self) -> None:
        """Write the index beside the segment and give up the lock; a segment without rows goes away."""
        if self._index:
            write_index(self.path, sort_index(self._index), self._stream.tell())
        else:
            self.path.unlink(missing_ok=True)
        self._stream.close()


def index_of(keys: Sequence[bytes], offset: int) -> np.ndarray:
    """Index of the 16-byte ``keys`` of one frame, in the order of its lines."""
    index = np.empty((4, len(keys)), dtype="<u8")
    index[HIGH : LOW + 1] = np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2).T
    index[OFFSET], index[ROW] = offset, np.arange(len(keys))
    return index


def write_index(segment: Path, index: np.ndarray, length: int) -> None:
    """Put ``index``, which is sorted, beside ``segment``; ``length`` bytes of the segment are covered by it."""
    head = np.array([[length], [0], [0], [0]], dtype="<u8")
    with atomic_file(_index_path(segment)) as stream:
        np.save(stream, np.concatenate([head, index], axis=1))


def sort_index(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One index of several, sorted by keys; of a key that is there twice the earlier one comes first."""
    whole = np.concatenate(parts, axis=1) if parts else np.empty((4, 0), dtype="<u8")
    return np.ascontiguousarray(whole[:, np.lexsort((whole[LOW], whole[HIGH]))])


def load_index(segment: Path) -> np.ndarray:
    """The sorted index of ``segment``: the one beside it if that covers the file, else one made by reading it all.

    The one beside it is mapped, not read: looking for a key touches a few pages of it. What was made by reading is
    kept beside the segment if no process writes to that any more.
    """
    try:
        stored = np.load(_index_path(segment), mmap_mode="r")
        if stored.ndim == 2 and int(stored[HIGH, 0]) == segment.stat().st_size:
            return np.asarray(stored)[:, 1:]
    except (FileNotFoundError, ValueError, EOFError):
        pass
    length = segment.stat().st_size
    found = [
        index_of([bytes.fromhex(row["key"]) for row in read_frame(segment, frame)], frame.offset)
        for frame in scan(segment).frames
    ]
    index = sort_index(found)
    if not is_being_written(segment):
        write_index(segment, index, length)
    return index


def is_being_written(segment: Path) -> bool:
    """Whether a living process holds the segment's lock."""
    with open(segment, "rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def scan(segment: Path) -> Scan:
    """Find the whole frames of ``segment``; damage in the middle costs the damaged frames only."""
    frames: list[Frame] = []
    covered = 0
    with open(segment, "rb") as stream:
        data = stream.read()
    offset = 0
    while offset + _HEADER.size <= len(data):
        frame = _frame_at(data, offset)
        if frame is None:
            offset = data.find(_HEADER.pack(_MAGIC, _HEADER.size - 8, _TAG, 0, 0, 0)[:12], offset + 1)
            if offset < 0:
                break
            continue
        frames.append(frame)
        covered += frame.end - frame.offset
        offset = frame.end
    return Scan(tuple(frames), len(data) - covered)


def read_frame(segment: Path, frame: Frame | int) -> list[dict[str, Any]]:
    """The rows of one frame, given itself or its offset."""
    with open(segment, "rb") as stream:
        stream.seek(frame if isinstance(frame, int) else frame.offset)
        _, _, _, size, plain, _ = _HEADER.unpack(stream.read(_HEADER.size))
        lines = pa.decompress(stream.read(size), decompressed_size=plain, codec=_CODEC, asbytes=True)
    return [json.loads(line) for line in lines.splitlines()]


def segments(folder: Path) -> list[Path]:
    """The segments in ``folder``, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def rows_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Every row of every segment in ``folder``."""
    for segment in segments(folder):
        for frame in scan(segment).frames:
            yield from read_frame(segment, frame)


def _frame_at(data: bytes, offset: int) -> Frame | None:
    magic, rest, tag, size, plain, checksum = _HEADER.unpack_from(data, offset)
    start = offset + _HEADER.size
    if magic != _MAGIC or rest != _HEADER.size - 8 or tag != _TAG or start + size > len(data):
        return None
    if zlib.crc32(memoryview(data)[start : start + size]) != checksum:
        return None
    return Frame(offset, size, plain, checksum)


def _index_path(segment: Path) -> Path:
    return segment.with_name(segment.name.removesuffix(SUFFIX) + INDEX_SUFFIX)
