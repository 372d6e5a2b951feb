"""Segments: append-only files of JSON lines, compressed, of which a kill can tear the last write only.

A segment is a chain of frames. Each frame is a skippable Zstandard frame (a small header: sizes and CRC-32 of what
follows) and a Zstandard frame of JSON lines, so ``zstdcat`` shows a segment as plain JSON lines. One process writes a
segment and holds a lock on it while it lives; no process ever writes to a segment of another.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import socket
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modpo_hpc.core.atomic import atomic_file

SUFFIX = ".jsonl.zst"
INDEX_SUFFIX = ".index"
HIGH, LOW, OFFSET, ROW = range(4)
"""Rows of an index, uint64 of shape (4, keys): the halves of each key, the offset of its frame, its line in there."""

_INDEX_HEAD = struct.Struct(
    "<4sIQQ"
)  # tag, CRC-32 of all that follows, bytes of the segment covered, millionths of USD
_INDEX_TAG, _CHECKED_FROM = b"MIX3", 8

_MAGIC = 0x184D2A5D
_TAG = b"MLG2"
_HEADER = struct.Struct("<II4sIII")  # magic, size of the rest, tag, compressed size, plain size, CRC-32
_BEGIN = _HEADER.pack(_MAGIC, _HEADER.size - 8, _TAG, 0, 0, 0)[:12]
_CODEC = "zstd"

log = logging.getLogger(__name__)


class DamagedSegment(Exception):
    """These bytes are not what was written."""


@dataclass(frozen=True)
class Frame:
    """Where the lines of one write stand in a segment."""

    offset: int
    size: int
    plain: int

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
        self._usd = 0.0

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add ``rows``, and return when they are on disk."""
        plain = b"".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for row in rows)
        packed = pa.compress(plain, codec=_CODEC, asbytes=True)
        header = _HEADER.pack(_MAGIC, _HEADER.size - 8, _TAG, len(packed), len(plain), _checksum(packed, len(plain)))
        offset = self._stream.tell()
        block = memoryview(header + packed)
        while block:
            block = block[self._stream.write(block) :]
        os.fsync(self._stream.fileno())
        self._index.append(_index_of_rows(rows, offset))
        self._usd += sum(map(usd_of, rows))

    def close(self) -> None:
        """Write the index beside the segment and give up the lock; a segment without rows goes away."""
        if self._index:
            write_index(self.path, Index(sort_index(self._index), self._usd, self._stream.tell()))
        else:
            self.path.unlink(missing_ok=True)
        self._stream.close()


def index_of(keys: Sequence[bytes], offset: int) -> np.ndarray:
    """Index of the 16-byte ``keys`` of one frame, in the order of its lines."""
    index = np.empty((4, len(keys)), dtype="<u8")
    index[HIGH : LOW + 1] = np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2).T
    index[OFFSET], index[ROW] = offset, np.arange(len(keys))
    return index


def _index_of_rows(rows: Sequence[dict[str, Any]], offset: int) -> np.ndarray:
    return index_of([bytes.fromhex(row["key"]) for row in rows], offset)


def write_index(segment: Path, index: Index) -> None:
    """Put ``index`` beside ``segment``."""
    head = _INDEX_HEAD.pack(_INDEX_TAG, 0, index.length, round(index.usd * 1e6))
    data = head[_CHECKED_FROM:] + index.keys.tobytes()
    with atomic_file(_index_path(segment)) as stream:
        stream.write(head[:4] + zlib.crc32(data).to_bytes(4, "little") + data)


def sort_index(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One index of several, sorted by keys; of a key that is there twice the earlier one comes first."""
    whole = np.concatenate(parts, axis=1) if parts else np.empty((4, 0), dtype="<u8")
    return np.ascontiguousarray(whole[:, np.lexsort((whole[LOW], whole[HIGH]))])


@dataclass(frozen=True)
class Index:
    """The sorted index of a segment, what its answers cost, and how many bytes of the segment it covers."""

    keys: np.ndarray
    usd: float
    length: int


def load_index(segment: Path) -> Index:
    """The index of ``segment``: the one beside it if that is whole and covers the file, else one made by reading."""
    stored = read_index(segment)
    return stored if stored is not None and stored.length == segment.stat().st_size else remake_index(segment)


def remake_index(segment: Path) -> Index:
    """An index made by reading ``segment``, which is kept beside it if no process writes to that any more.

    What answers cost that were lost to damage stays spent, where the index before knew it.
    """
    length, before, whole = segment.stat().st_size, read_index(segment), scan(segment)
    index = extend_index(Index(np.empty((4, 0), dtype="<u8"), 0.0, 0), segment, whole)
    if not is_locked(segment):
        if lost := lost_bytes(segment, whole):
            log.warning("%s: %d bytes are damaged or torn; what they held is asked again", segment, lost)
        index = Index(index.keys, max(index.usd, before.usd if before else 0.0), length)
        write_index(segment, index)
    return index


def lost_bytes(segment: Path, whole: Scan) -> int:
    """Bytes of a closed ``segment`` that are damaged, or that its index says were there."""
    known = read_index(segment)
    return whole.lost_bytes + max(0, (known.length if known else 0) - segment.stat().st_size)


def extend_index(index: Index, segment: Path, more: Scan) -> Index:
    """``index`` with the frames of ``more``, which follow what it covers."""
    parts, usd = [index.keys], index.usd
    for frame in more.frames:
        rows = read_frame(segment, frame.offset)
        parts.append(_index_of_rows(rows, frame.offset))
        usd += sum(map(usd_of, rows))
    end = max((frame.end for frame in more.frames), default=index.length)
    return Index(sort_index(parts), usd, end)


def read_index(segment: Path) -> Index | None:
    """The index beside ``segment``; None if there is none, or it is damaged."""
    try:
        data = _index_path(segment).read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        data = b""
    keys = data[_INDEX_HEAD.size :]
    if len(data) >= _INDEX_HEAD.size and len(keys) % 32 == 0:
        tag, checksum, length, micro_usd = _INDEX_HEAD.unpack_from(data)
        if tag == _INDEX_TAG and checksum == zlib.crc32(memoryview(data)[_CHECKED_FROM:]):
            return Index(np.frombuffer(keys, dtype="<u8").reshape(4, -1), micro_usd / 1e6, length)
    log.warning("%s is damaged; the segment is read instead", _index_path(segment))
    return None


def usd_of(row: dict[str, Any]) -> float:
    """What the answer in ``row`` cost."""
    return float(row["usage"][3]) if "usage" in row else 0.0


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of ``path``: of a segment, the one that writes it."""
    with open(path, "rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def scan(segment: Path, start: int = 0) -> Scan:
    """Find the whole frames of ``segment`` from ``start`` on; damage costs the damaged frames only."""
    with open(segment, "rb") as stream:
        stream.seek(start)
        data = stream.read()
    frames: list[Frame] = []
    offset = 0
    while 0 <= offset < len(data):
        if (frame := _frame_at(data, offset)) is None:
            offset = data.find(_BEGIN, offset + 1)
        else:
            frames.append(replace(frame, offset=start + offset))
            offset = frame.end
    return Scan(tuple(frames), len(data) - sum(frame.end - frame.offset for frame in frames))


def read_frame(segment: Path, offset: int) -> list[dict[str, Any]]:
    """The rows of the frame at ``offset``.

    Raises:
        Damaged: there is no whole frame at this place.
    """
    with open(segment, "rb") as stream:
        stream.seek(offset)
        data = stream.read(_HEADER.size)
        if len(data) == _HEADER.size:
            data += stream.read(min(_HEADER.unpack(data)[3], segment.stat().st_size))
    frame = _frame_at(data, 0)
    if frame is None:
        raise DamagedSegment(f"{segment}: no whole frame at byte {offset}")
    packed = data[_HEADER.size : frame.end]
    lines = pa.decompress(packed, decompressed_size=frame.plain, codec=_CODEC, asbytes=True)
    return [json.loads(line) for line in lines.split(b"\n") if line]


def segments(folder: Path) -> list[Path]:
    """The segments in ``folder``, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def rows_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Every row of every segment in ``folder``."""
    for segment in segments(folder):
        for frame in scan(segment).frames:
            yield from read_frame(segment, frame.offset)


def _frame_at(data: bytes, offset: int) -> Frame | None:
    start = offset + _HEADER.size
    if start > len(data):
        return None
    magic, rest, tag, size, plain, checksum = _HEADER.unpack_from(data, offset)
    if magic != _MAGIC or rest != _HEADER.size - 8 or tag != _TAG or start + size > len(data):
        return None
    if _checksum(memoryview(data)[start : start + size], plain) != checksum:
        return None
    return Frame(offset, size, plain)


def _checksum(packed: bytes | memoryview, plain: int) -> int:
    return zlib.crc32(packed, zlib.crc32(plain.to_bytes(8, "little")))


def _index_path(segment: Path) -> Path:
    return segment.with_name(segment.name.removesuffix(SUFFIX) + INDEX_SUFFIX)
