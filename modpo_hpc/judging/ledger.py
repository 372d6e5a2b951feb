"""The ledger: every raw answer that was ever paid for, by the content that can change the answer.

It is a folder of segments (``modpo_hpc.judging.segments``) that any number of runs and studies may share. An answer
is found again by its key, so that the same question is never paid for twice; what the answer means is decided by
``parse_answer`` when it is read, so a better parser needs no new call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from modpo_hpc.judging import segments
from modpo_hpc.judging.tasks import Task

KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read (``cached`` of them from the provider's cache) and written, and what they cost in US dollars."""

    read: int = 0
    written: int = 0
    cached: int = 0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer as it came, or the refusal that came in its place.

    ``task``, ``criteria`` and ``shown`` say how to parse ``answer``. ``refusal`` is why the judge will not answer
    this request, ever (too long, filtered): then ``answer`` is None. ``tries`` counts the calls that it took.
    """

    key: bytes
    answer: str | None
    task: Task
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
        self._indexes: list[tuple[Path, np.ndarray]] = []
        self._frame: tuple[tuple[Path, int], list[dict[str, Any]]] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes have added since."""
        own = self._writer.path if self._writer else None
        present = segments.segments(self.folder) if self.folder.is_dir() else []
        self._indexes = [(path, segments.load_index(path)) for path in present if path != own]
        self._frame = None

    def just_added(self, key: bytes) -> Entry | None:
        """The entry of ``key`` if it was added here since the ledger was opened."""
        return self._fresh.get(key)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """The entries of those of ``keys`` that have one."""
        found = {key: self._fresh[key] for key in keys if key in self._fresh} if self._fresh else {}
        asked = [key for key in dict.fromkeys(keys) if key not in found]
        if not asked or not self._indexes:
            return found
        wanted = segments.index_of(asked, 0)
        for path, index in self._indexes:
            start = np.searchsorted(index[segments.HIGH], wanted[segments.HIGH], side="left")
            end = np.searchsorted(index[segments.HIGH], wanted[segments.HIGH], side="right")
            places: list[tuple[int, int, bytes]] = []
            for number in np.nonzero(end > start)[0]:
                for place in range(int(start[number]), int(end[number])):
                    if index[segments.LOW, place] == wanted[segments.LOW, number] and asked[number] not in found:
                        _, _, offset, row = index[:, place].tolist()
                        places.append((offset, row, asked[number]))
                        break
            for offset, row, key in sorted(places):
                found[key] = _entry(self._lines(path, offset)[row])
        return found

    def append(self, entries: Sequence[Entry]) -> None:
        """Add ``entries``; they are on disk when this returns."""
        if not entries:
            return
        if self._writer is None:
            self._writer = segments.SegmentWriter(self.folder)
        self._writer.append([entry.key for entry in entries], [_row(entry) for entry in entries])
        self._fresh.update((entry.key, entry) for entry in entries)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lines(self, path: Path, offset: int) -> list[dict[str, Any]]:
        if self._frame is None or self._frame[0] != (path, offset):
            self._frame = ((path, offset), segments.read_frame(path, offset))
        return self._frame[1]


def entries(folder: Path) -> Iterable[Entry]:
    """Every entry of the ledger in ``folder``, oldest segment first."""
    return map(_entry, segments.rows_of(folder))


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
