"""Claims: who is asking what right now, so that processes that share a ledger never ask the same thing twice.

Each process writes the keys that it is about to ask into a file of its own, under one lock for all, after it has read
what the others have written. A claim ends with its answer in the ledger, or with its process: the file is locked while
that lives, and its time of change is renewed, for file systems on which a lock outlives a node. Claims of a batch
outlive their process until a moment that is written down.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from modpo_hpc.errors import ModpoError
from modpo_hpc.llm.ledger import KEY_BYTES
from modpo_hpc.llm.segments import is_locked

FOLDER, LOCK = "claims", "lock"
SILENT_SECONDS = 600.0
"""A process whose file has not changed for so long is taken for dead, whatever its lock says."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone with ``path``, among all processes that lock it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path, "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class Claims:
    """The claims of one process on the ledger in ``folder``. Close them, or die: either ends them.

    Args:
        lasting: name of claims that outlive this process (those of batches), up to ``until``.
    """

    def __init__(
        self, folder: Path, lasting: str = "", until: float = 0.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._clock, self._until = folder / FOLDER, clock, until
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = lasting or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.path = self._folder / f"{name}.{'lasting' if lasting else 'claims'}"
        self._read: dict[Path, int] = {}
        self._theirs: dict[bytes, Path] = {}
        self._mine: set[bytes] = set()
        with locked(self._folder / LOCK):
            if lasting and self.path.exists():
                data = self.path.read_bytes()
                self._mine.update(data[at : at + KEY_BYTES] for at in range(0, len(data) - KEY_BYTES + 1, KEY_BYTES))
            self._stream = open(self.path, "ab")  # noqa: SIM115 - held while this process lives
            self._stream.truncate(len(self._mine) * KEY_BYTES)
            try:
                fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ModpoError(f"{self.path}: another attempt at this shard still waits for its batches") from None
            self.renew()

    def take(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of ``keys`` that are ours to ask: nobody else is asking them. They stay ours until ``close``."""
        new = [key for key in dict.fromkeys(keys) if key not in self._mine]
        if new:
            with locked(self._folder / LOCK):
                self._look_at_others()
                new = [key for key in new if key not in self._theirs]
                self._stream.write(b"".join(new))
                self._stream.flush()
                self.renew()  # what was written has changed the time
            self._mine.update(new)
        return {key for key in keys if key in self._mine}

    def renew(self) -> None:
        """Show that this process is alive; claims that outlive it last until their moment."""
        stamp = self._until or self._clock()
        os.utime(self.path, (stamp, stamp))

    def close(self, keep: bool = False) -> None:
        """Give up all claims; with ``keep`` they last, as those of a batch that is under way do."""
        if not keep:
            self.path.unlink(missing_ok=True)
        self._stream.close()

    def _look_at_others(self) -> None:
        present = {path for path in self._folder.iterdir() if path.name != LOCK and path != self.path}
        living = {path for path in present if self._is_alive(path)}
        for path in set(self._read) - living:
            del self._read[path]
            self._theirs = {key: one for key, one in self._theirs.items() if one != path}
        for path in living:
            try:
                with open(path, "rb") as stream:
                    stream.seek(self._read.get(path, 0))
                    data = stream.read()
            except FileNotFoundError:
                continue
            whole = len(data) - len(data) % KEY_BYTES
            self._read[path] = self._read.get(path, 0) + whole
            self._theirs.update((data[at : at + KEY_BYTES], path) for at in range(0, whole, KEY_BYTES))

    def _is_alive(self, path: Path) -> bool:
        try:
            changed = path.stat().st_mtime
            if path.suffix == ".lasting":
                alive = changed > self._clock()
            else:
                alive = changed > self._clock() - SILENT_SECONDS and is_locked(path)
        except FileNotFoundError:
            return False
        if not alive:
            path.unlink(missing_ok=True)
        return alive
