"""A journal: what an attempt has done so far, for the next one to go on from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


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
