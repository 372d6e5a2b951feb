"""A backend for Optuna's journal that survives a kill in the middle of a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock


@contextmanager
def locked(lock: JournalFileOpenLock) -> Iterator[None]:
    """Hold ``lock`` while the block runs."""
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


class JournalBackend(JournalFileBackend):
    """Optuna's journal file under the lock that is safe on NFS, with torn lines cut off before the next is written.

    Optuna passes over a torn last line, but appends to it; from then on every reader refuses the journal.
    """

    def __init__(self, path: Path) -> None:
        self._journal, self._journal_lock = path, JournalFileOpenLock(str(path))
        super().__init__(str(path), lock_obj=self._journal_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append ``logs``, one line each, and wait until they are on disk."""
        lines = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with locked(self._journal_lock), open(self._journal, "r+b") as stream:
            stream.seek(_length_of_complete_lines(stream))
            stream.truncate()
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())


def _length_of_complete_lines(stream: Any, block: int = 1 << 16) -> int:
    """Bytes of ``stream`` up to and with its last line end."""
    end = stream.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - block)
        stream.seek(start)
        newline = stream.read(end - start).rfind(b"\n")
        if newline >= 0:
            return int(start + newline + 1)
        end = start
    return 0
