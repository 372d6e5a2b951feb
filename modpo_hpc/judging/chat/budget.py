"""The budget that all who share a ledger draw on: requests and tokens per minute, and dollars in all.

Its state is a small file in the ledger's folder, changed under a lock, so that actors, shards and runs on a shared
file system keep to one limit together. What a call may take is reserved before it is sent, and settled when it is
known. What a killed process had reserved counts as spent: the provider may have charged for it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modpo_hpc.errors import ModpoError
from modpo_hpc.judging import ledger
from modpo_hpc.study.judging import Judge

FILE = "budget.json"
BURST_SECONDS = 6.0


@dataclass(frozen=True)
class Limits:
    """Requests and tokens a minute of ``account``, and dollars of the whole ledger; None means no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_usd: float | None = None
    account: str = ""

    @property
    def any(self) -> bool:
        limits = (self.requests_per_minute, self.tokens_per_minute, self.max_usd)
        return any(one is not None for one in limits)


def limits_of(settings: Judge) -> Limits:
    """The limits that ``settings`` state, which hold for one model at one endpoint."""
    account = f"{settings.model} {settings.base_url}"
    return Limits(settings.requests_per_minute, settings.tokens_per_minute, settings.max_usd, account)


class SpendingLimit(ModpoError):
    """The limit of dollars is reached; nothing more is sent."""

    exit_code = 3


@dataclass(frozen=True)
class Grant:
    """Whether a call may be sent now; if not, the seconds to wait, or None if it will never be allowed."""

    granted: bool
    wait: float | None = 0.0


class Budget:
    """One process's hold on the shared budget. Close it, so that what it reserved and did not use goes back."""

    def __init__(self, folder: Path, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self._path, self._limits, self._clock = folder / FILE, limits, clock
        self._owner = f"{os.uname().nodename}:{os.getpid()}:{time.monotonic_ns()}"
        self._alive = None
        if limits.any:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._alive = open(self._alive_path(self._owner), "w")  # noqa: SIM115 - held while this process lives
            fcntl.flock(self._alive, fcntl.LOCK_EX)
            with self._state() as state:
                self._bury_the_dead(state)

    def reserve(self, tokens: int, usd: float) -> Grant:
        """Ask for one request of so many tokens and dollars at most."""
        if not self._limits.any:
            return Grant(True)
        with self._state() as state:
            limit = self._limits.max_usd
            reserved = sum(state["reserved"].values())
            if limit is not None and state["spent"] + reserved + usd > limit:
                return Grant(False, None if state["spent"] + usd > limit or reserved == 0 else 0.5)
            rates = state["rates"][self._limits.account]
            waits = [
                _wait(rates["requests"], 1, self._limits.requests_per_minute),
                _wait(rates["tokens"], tokens, self._limits.tokens_per_minute),
            ]
            if max(waits) > 0:
                return Grant(False, max(waits))
            rates["requests"] -= 1
            rates["tokens"] -= tokens
            state["reserved"][self._owner] = state["reserved"].get(self._owner, 0.0) + usd
        return Grant(True)

    def settle(self, reserved_tokens: int, reserved_usd: float, tokens: int, usd: float) -> None:
        """Say what a call that was granted has really taken; the rest goes back."""
        if not self._limits.any:
            return
        with self._state() as state:
            state["rates"][self._limits.account]["tokens"] += reserved_tokens - tokens
            state["spent"] += usd
            left = state["reserved"].get(self._owner, 0.0) - reserved_usd
            state["reserved"][self._owner] = max(0.0, left)

    @property
    def spent(self) -> float:
        """Dollars spent on this ledger so far, as far as the budget knows."""
        if not self._limits.any:
            return 0.0
        with self._state() as state:
            return float(state["spent"])

    def close(self) -> None:
        if self._alive is None:
            return
        with self._state() as state:
            state["reserved"].pop(self._owner, None)
        self._alive_path(self._owner).unlink(missing_ok=True)
        self._alive.close()
        self._alive = None

    def _alive_path(self, owner: str) -> Path:
        return self._path.with_name(f"{FILE}.{owner.replace(':', '-')}.alive")

    def _bury_the_dead(self, state: dict[str, Any]) -> None:
        for owner in [one for one in state["reserved"] if one != self._owner]:
            path = self._alive_path(owner)
            try:
                with open(path) as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except FileNotFoundError:
                pass
            except OSError:
                continue
            state["spent"] += state["reserved"].pop(owner)
            path.unlink(missing_ok=True)

    @contextmanager
    def _state(self) -> Iterator[dict[str, Any]]:
        with open(self._path, "a+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            text = stream.read()
            now = self._clock()
            state = json.loads(text) if text else self._fresh()
            self._refill(state, now)
            yield state
            stream.seek(0)
            stream.truncate()
            stream.write(json.dumps(state))
            stream.flush()

    def _fresh(self) -> dict[str, Any]:
        spent = sum(entry.usage.usd for entry in ledger.entries(self._path.parent))
        return {"spent": spent, "reserved": {}, "rates": {}}

    def _refill(self, state: dict[str, Any], now: float) -> None:
        rates = state.setdefault("rates", {}).setdefault(
            self._limits.account, {"at": now, "requests": 1.0, "tokens": 0.0}
        )
        passed = max(0.0, now - rates["at"])
        rates["at"] = now
        for name, per_minute in (
            ("requests", self._limits.requests_per_minute),
            ("tokens", self._limits.tokens_per_minute),
        ):
            if per_minute is not None:
                rates[name] = min(max(1.0, per_minute * BURST_SECONDS / 60), rates[name] + per_minute * passed / 60)


def _wait(available: float, wanted: float, per_minute: int | None) -> float:
    """Seconds until ``wanted`` is there. A call larger than the burst goes when the burst is full, into debt."""
    if per_minute is None:
        return 0.0
    needed = min(wanted, max(1.0, per_minute * BURST_SECONDS / 60))
    return max(0.0, (needed - available) * 60 / per_minute)
