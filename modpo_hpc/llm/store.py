"""The ledger and the claims on it together: what is known, what is ours to ask, what another process is asking."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modpo_hpc.llm.claims import Claims
from modpo_hpc.llm.ledger import Entry, Ledger

if TYPE_CHECKING:
    from modpo_hpc.run import Run
    from modpo_hpc.study.judging import Judge

LOOK_SECONDS = 1.0
RENEW_SECONDS = 60.0


def ledger_folder(run: Run, judge: Judge | None = None) -> Path:
    """Where the raw answers of ``judge`` (the first one) are kept: its ledger, or the one inside the run."""
    return (judge or run.study.judges[0]).ledger or run.root / "ledger"


@dataclass(frozen=True)
class Known:
    """``entries`` by key, and the keys without one that are ours to ask; all others are being asked elsewhere."""

    entries: dict[bytes, Entry]
    ours: set[bytes]


class Store:
    """Where answers are kept, and who asks for which. Open it with ``with``."""

    def __init__(self, ledger: Ledger, claims: Claims) -> None:
        self.ledger, self._claims = ledger, claims
        self.keep_claims = False
        """Whether the claims outlive this process: set while a batch is under way."""
        self._looked_at = self._renewed_at = time.monotonic()

    def look_up(self, keys: Sequence[bytes]) -> Known:
        """What is known of ``keys``; those without an answer become ours unless another process has them."""
        found = self.ledger.find(keys)
        missing = [key for key in keys if key not in found]
        ours = self._claims.take(missing) if missing else set()
        if ours:
            # somebody may have answered between our look and our claim
            self.ledger.refresh()
            late = self.ledger.find(list(ours))
            found.update(late)
            ours -= set(late)
        return Known(found, ours)

    def look_again(self, keys: Sequence[bytes]) -> Known | None:
        """``look_up`` of keys that were elsewhere, once a second at most."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return None
        self._looked_at = now
        self.ledger.refresh()
        return self.look_up(keys)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add ``entries``; they are on disk when this returns."""
        self.ledger.append(entries)

    def renew(self) -> None:
        """Show others that this process is alive; call it now and then."""
        if time.monotonic() - self._renewed_at > RENEW_SECONDS:
            self._renewed_at = time.monotonic()
            self._claims.renew()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()
        self._claims.close(self.keep_claims)
