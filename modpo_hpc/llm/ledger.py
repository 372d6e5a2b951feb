"""The ledger: every raw answer that was ever paid for, by the content that can change the answer.

It is a folder of segments (``modpo_hpc.llm.segments``) that any number of runs and studies may share. An answer
is found again by its key, so that the same question is never paid for twice; what the answer means is decided when it
is read, so a better parser needs no new call.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modpo_hpc.llm import segments

KEY_BYTES = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read (``cached`` of them from the provider's cache) and written, and what they cost in US dollars.

    ``estimated``: the endpoint told none that can be true, and what was reserved is counted instead.
    """

    read: int = 0
    written: int = 0
    cached: int = 0
    usd: float = 0.0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer as it came, or the refusal that came in its place.

    ``task``, ``criteria`` and ``shown`` say how to parse ``answer``, where it is a judgment. ``refusal`` is why the
    model will not answer this request, ever (too long, filtered): then ``answer`` is None. ``tries`` counts the calls
    that it took.
    """

    key: bytes
    answer: str | None
    task: str
    criteria: tuple[str, ...]
    shown: int
    judge: str
    refusal: str | None = None
    finish: str | None = None
    usage: Usage = Usage()
    tries: int = 1
    at: float = 0.0


class Ledger:
    """The answers in ``folder``, and the way to add to them. Open it with ``with``; one writer a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: segments.SegmentWriter | None = None
        self._fresh: dict[bytes, Entry] = {}
        self._indexes: dict[Path, segments.Index] = {}
        self._frame: tuple[tuple[Path, int], list[dict[str, Any]]] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes have added since."""
        own = self._writer.path if self._writer else None
        for path in segments.segments(self.folder):
            with suppress(FileNotFoundError):  # closed without a row in the meantime
                known = self._indexes.get(path)
                if path == own or (known is not None and known.length == path.stat().st_size):
                    continue
                if known is None:
                    self._indexes[path] = segments.load_index(path)
                elif (more := segments.scan(path, known.length)).frames:
                    self._indexes[path] = segments.extend_index(known, path, more)

    def just_added(self, key: bytes) -> Entry | None:
        """The entry of ``key`` if it was added here since the ledger was opened."""
        return self._fresh.get(key)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """The entries of those of ``keys`` that have one."""
        found = {key: self._fresh[key] for key in keys if key in self._fresh} if self._fresh else {}
        asked = [key for key in dict.fromkeys(keys) if key not in found]
        if not asked:
            return found
        for path in sorted(self._indexes):
            try:
                self._find_in(path, asked, found)
            except segments.DamagedSegment:
                log.warning("%s is damaged: it is read anew, and what cannot be read is asked again", path)
                self._indexes[path] = segments.remake_index(path)
                self._find_in(path, asked, found)
        return found

    def _find_in(self, path: Path, asked: Sequence[bytes], found: dict[bytes, Entry]) -> None:
        index, wanted = self._indexes[path].keys, segments.index_of(asked, 0)
        start = np.searchsorted(index[segments.HIGH], wanted[segments.HIGH], side="left")
        end = np.searchsorted(index[segments.HIGH], wanted[segments.HIGH], side="right")
        places: list[tuple[int, int, bytes]] = []
        for number in np.nonzero(end > start)[0].tolist():
            for place in range(int(start[number]), int(end[number])):
                if index[segments.LOW, place] == wanted[segments.LOW, number] and asked[number] not in found:
                    _, _, offset, row = index[:, place].tolist()
                    places.append((offset, row, asked[number]))
                    break
        for offset, row, key in sorted(places):
            lines = self._lines(path, offset)
            if row >= len(lines) or lines[row]["key"] != key.hex():
                raise segments.DamagedSegment(f"{path}: the index names a row that is not there")
            found[key] = _entry(lines[row])

    def append(self, entries: Sequence[Entry]) -> None:
        """Add ``entries``; they are on disk when this returns."""
        if not entries:
            return
        if self._writer is None:
            self._writer = segments.SegmentWriter(self.folder)
        self._writer.append([_row(entry) for entry in entries])
        self._fresh.update((entry.key, entry) for entry in entries)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lines(self, path: Path, offset: int) -> list[dict[str, Any]]:
        if self._frame is None or self._frame[0] != (path, offset):
            self._frame = ((path, offset), segments.read_frame(path, offset))
        return self._frame[1]


def entries(folder: Path) -> Iterable[Entry]:
    """Every entry of the ledger in ``folder``, oldest segment first."""
    return map(_entry, segments.rows_of(folder))


def spent(folder: Path) -> float:
    """US dollars that the answers in ``folder`` cost."""
    return sum(segments.load_index(path).usd for path in segments.segments(folder))


def _row(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": entry.key.hex(),
        "answer": entry.answer,
        "form": [entry.task, entry.shown, *entry.criteria],
        "judge": entry.judge,
    }
    if entry.refusal is not None:
        row["refusal"] = entry.refusal
    if entry.finish is not None:
        row["finish"] = entry.finish
    if entry.usage != _NO_USAGE:
        row["usage"] = [entry.usage.read, entry.usage.written, entry.usage.cached, entry.usage.usd]
        row["usage"] += [True] if entry.usage.estimated else []
    if entry.tries != 1:
        row["tries"] = entry.tries
    if entry.at:
        row["at"] = entry.at
    return row


_NO_USAGE = Usage()


def _entry(row: dict[str, Any]) -> Entry:
    task, shown, *criteria = row["form"]
    return Entry(
        key=bytes.fromhex(row["key"]),
        answer=row["answer"],
        task=task,
        criteria=tuple(criteria),
        shown=shown,
        judge=row["judge"],
        refusal=row.get("refusal"),
        finish=row.get("finish"),
        usage=Usage(*row["usage"]) if "usage" in row else _NO_USAGE,
        tries=row.get("tries", 1),
        at=row.get("at", 0.0),
    )
