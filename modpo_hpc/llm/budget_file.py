"""The file of a budget: its state twice, each time with a checksum, since a part of it is known nowhere else.

What answers cost is in the ledger. What was charged without an answer, and what running batches hold, is in this file
alone; so a damaged copy is not believed, the other one takes its place, and where both are damaged nobody goes on.
"""

from __future__ import annotations

import json
import logging
import zlib
from pathlib import Path
from typing import Any

from modpo_hpc.errors import InputError

PARTS = {"answered", "unanswered", "leased", "accounts"}

log = logging.getLogger(__name__)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Put ``state`` in the place of what the file ``path`` held; whoever calls holds its lock."""
    text = json.dumps(state).encode()
    line = b"%08x %s\n" % (zlib.crc32(text), text)
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_bytes(line * 2)
    temporary.replace(path)


def read_state(path: Path) -> dict[str, Any] | None:
    """The state in the file ``path``: that of a copy that is whole; None if there is no file.

    Raises:
        InputError: neither copy is whole.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    lines, half = data.splitlines(), len(data) // 2
    places = [*lines, data[: half - 1], data[half:-1]]  # by size too, for where the end of a line is damaged
    states = [state for place in places if (state := _state_in(place)) is not None]
    if not states:
        raise InputError(
            f"this file is damaged ({len(data)} bytes), and with it what was charged without an answer",
            file=path,
            remedy="Bring it back from a backup. If there is none, wait until nobody asks by this ledger and remove "
            "it: what answers cost is then counted anew from the ledger. Lower max_usd by what else the provider has "
            "charged, and by the price of batches that are under way.",
        )
    if any(_state_in(line) is None for line in lines):
        log.warning("%s: a copy of the state in it is damaged; the other one counts", path)
    return states[0]


def _state_in(line: bytes) -> dict[str, Any] | None:
    """The state in ``line``; None if its checksum says that it is damaged. Earlier versions wrote no checksum."""
    checksum, text = (b"", line) if line.startswith(b"{") else (line[:8], line[9:])
    if checksum and checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        state = json.loads(text)
    except ValueError:
        return None
    return state if isinstance(state, dict) and set(state) == PARTS else None
