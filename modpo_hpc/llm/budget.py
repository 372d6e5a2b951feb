"""The budget that all who share a ledger draw on: dollars in all, requests and tokens a minute, and pauses.

Its state is a small file in the ledger's folder, changed under a lock. A process takes from it in blocks and settles
about once a second, so that a limit costs no pace. What an answer cost stands in the ledger; what was charged, or may
have been, without an answer (timeouts, lost connections, killed processes) stands here, and counts as spent.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modpo_hpc.errors import ModpoError
from modpo_hpc.llm import ledger
from modpo_hpc.llm.budget_file import read_state, write_state
from modpo_hpc.llm.claims import locked
from modpo_hpc.llm.segments import is_locked
from modpo_hpc.study.endpoint import Endpoint

FILE = "budget.json"
BURST_SECONDS, BLOCK_SECONDS, BLOCK_CALLS = 6.0, 0.5, 64
SETTLE_SECONDS, REFUSED_SECONDS = 1.0, 0.5
_HELD = "held:"


@dataclass(frozen=True)
class RateLimits:
    """Requests and tokens a minute of ``account``, and dollars of the whole ledger; None means no limit."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_usd: float | None = None
    account: str = ""


def limits_of(settings: Endpoint, model: str) -> RateLimits:
    """The limits that ``settings`` state, which hold for one model at one endpoint."""
    account = f"{model} {settings.base_url}"
    return RateLimits(settings.requests_per_minute, settings.tokens_per_minute, settings.max_usd, account)


class SpendingLimit(ModpoError):
    """The limit of dollars is reached; nothing more is sent."""

    exit_code = 3


@dataclass(frozen=True)
class Grant:
    """Whether a call may be sent now; if not, the seconds to wait, or None if it will never be allowed."""

    granted: bool
    wait: float | None = 0.0


_NOT_REFUSED: tuple[float, float, Grant] = (float("-inf"), 0.0, Grant(False))
"""Until when, from how many dollars on, and how a reservation was refused: it need not be looked up again."""


class Budget:
    """One process's hold on the shared budget. Close it, so that what it took and did not use goes back."""

    def __init__(self, folder: Path, limits: RateLimits, clock: Callable[[], float] = time.time) -> None:
        self._path, self._limits, self._clock = folder / FILE, limits, clock
        self._owner = f"{os.uname().nodename}:{os.getpid()}:{time.monotonic_ns()}"
        self._usd = self._reserved = self._answered = self._unanswered = 0.0
        self._stock = {"requests": 0.0, "tokens": 0.0}
        per_minute = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_minute}
        self._rates = {name: rate for name, rate in per_minute.items() if rate is not None}
        self._settled_at = clock()
        self._refused = _NOT_REFUSED
        self.not_before = 0.0
        """Moment before which nobody asks, as the endpoint told any of the processes."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._read()  # where it is damaged, nothing is left behind
        self._alive = open(self._alive_path(self._owner), "w")  # noqa: SIM115 - held while this process lives
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        with self._state() as state:
            self._bury_the_dead(state)
            if not any(not owner.startswith(_HELD) for owner in state["leased"]):
                state["answered"] = ledger.spent(folder)
            state["leased"][self._owner] = 0.0

    def reserve(self, tokens: int, usd: float) -> Grant:
        """Ask for one request of so many tokens and dollars at most."""
        now = self._clock()
        until, least, refusal = self._refused
        if now < until and usd >= least:
            return refusal
        grant = Grant(True) if self._has(tokens, usd) else self._take_block(tokens, usd)
        if not grant.granted:
            wait = REFUSED_SECONDS if grant.wait is None else grant.wait
            self._refused = (now + min(wait, REFUSED_SECONDS), usd, grant)
            return grant
        self._usd -= usd
        self._reserved += usd
        self._stock["requests"] -= 1
        self._stock["tokens"] -= tokens
        return grant

    def settle(self, reserved_tokens: int, reserved_usd: float, tokens: int, usd: float, answered: bool = True) -> None:
        """Say what a call that was granted has really taken; the rest goes back.

        What has cost ``usd`` and brought no answer is remembered here, since the ledger does not know of it.
        """
        self._stock["tokens"] += reserved_tokens - tokens
        self._reserved = max(0.0, self._reserved - reserved_usd)
        self._usd += reserved_usd - usd
        if answered:
            self._answered += usd
        else:
            self._unanswered += usd
        self._refused = _NOT_REFUSED

    def sync(self, force: bool = False) -> None:
        """Tell the others what was spent, and hear of pauses; does so once a second at most unless ``force``."""
        now = self._clock()
        if force or not 0 <= now - self._settled_at < SETTLE_SECONDS:
            with self._state() as state:
                self._settle(state)

    def pause(self, until: float) -> None:
        """Let nobody ask this account before ``until``."""
        self.not_before = max(self.not_before, until)
        with self._state() as state:
            account = state["accounts"][self._limits.account]
            account["not_before"] = max(account.get("not_before", 0.0), until)

    def hold(self, name: str, usd: float) -> float | None:
        """Take ``usd`` for something that outlives this process, known as ``name``; None if the limit leaves less.

        Returns:
            What is left after it; without a limit nothing is held, and that is without end.
        """
        if self._limits.max_usd is None:
            return float("inf")
        with self._state() as state:
            self._settle(state)
            state["leased"].pop(_HELD + name, None)
            self._bury_the_dead(state)
            if self._left(state) < usd:
                return None
            state["leased"][_HELD + name] = usd
            return self._left(state)

    def release(self, name: str, usd: float, answered: bool = True) -> None:
        """What was held as ``name`` has really cost ``usd``."""
        with self._state() as state:
            state["leased"].pop(_HELD + name, None)
            state["answered" if answered else "unanswered"] += usd

    @property
    def spent(self) -> float:
        """Dollars spent on this ledger so far, with those of calls that brought no answer."""
        with self._state() as state:
            self._settle(state)
            return float(state["answered"] + state["unanswered"])

    def close(self) -> None:
        if self._alive.closed:
            return
        with self._state() as state:
            # what is still out was sent: the provider may charge for it, and no answer will be kept
            self._unanswered += self._reserved
            self._usd = self._reserved = 0.0
            self._settle(state)
            account = state["accounts"][self._limits.account]
            for name, unused in self._stock.items():
                account[name] += max(0.0, unused)
            state["leased"].pop(self._owner, None)
        self._alive_path(self._owner).unlink(missing_ok=True)
        self._alive.close()

    def _has(self, tokens: int, usd: float) -> bool:
        enough = self._limits.max_usd is None or self._usd >= usd
        return enough and not any(self._missing(tokens).values())

    def _missing(self, tokens: int) -> dict[str, float]:
        """What a call needs more than is in stock, of each thing that has a limit."""
        needed = {"requests": 1, "tokens": tokens}
        return {name: max(0.0, needed[name] - self._stock[name]) for name in self._rates}

    def _take_block(self, tokens: int, usd: float) -> Grant:
        missing = self._missing(tokens)
        with self._state() as state:
            account: dict[str, float] = state["accounts"][self._limits.account]
            # a call larger than the burst goes when the burst is full, into debt
            waits = [
                (min(missing[name], _burst(per_minute)) - account[name]) * 60 / per_minute
                for name, per_minute in self._rates.items()
            ]
            self._settle(state)
            if self._limits.max_usd is not None:
                left = self._left(state)
                if left < usd:
                    self._bury_the_dead(state)
                    left = self._left(state)
                if left < usd:
                    others_may_give_back = any(one > 1e-9 for one in state["leased"].values())
                    return Grant(False, REFUSED_SECONDS if others_may_give_back else None)
                block = min(max(usd, left / 4), BLOCK_CALLS * usd)
                state["leased"][self._owner] += block
                self._usd += block
            if max(waits, default=0.0) > 0:
                return Grant(False, max(waits))
            for name, per_minute in self._rates.items():
                taken = max(missing[name], min(account[name], per_minute * BLOCK_SECONDS / 60))
                account[name] -= taken
                self._stock[name] += taken
        return Grant(True)

    def _left(self, state: dict[str, Any]) -> float:
        taken = state["answered"] + state["unanswered"] + sum(state["leased"].values())
        return (self._limits.max_usd or 0.0) - float(taken)

    def _settle(self, state: dict[str, Any]) -> None:
        """Report what was spent, and give back what is not out: others may need it more."""
        state["answered"] += self._answered
        state["unanswered"] += self._unanswered
        self._answered = self._unanswered = 0.0
        if self._limits.max_usd is not None:
            state["leased"][self._owner] = self._reserved if self._reserved > 1e-9 else 0.0
            self._usd = 0.0
        self._settled_at = self._clock()

    def _alive_path(self, owner: str) -> Path:
        return self._path.with_name(f"{FILE}.{owner.replace(':', '-')}.alive")

    def _bury_the_dead(self, state: dict[str, Any]) -> None:
        for owner in [one for one in state["leased"] if one != self._owner and not one.startswith(_HELD)]:
            path = self._alive_path(owner)
            with suppress(FileNotFoundError):
                if is_locked(path):
                    continue
            # what it had out counts as spent: the provider may have charged for it
            state["unanswered"] += state["leased"].pop(owner)
            path.unlink(missing_ok=True)

    @contextmanager
    def _state(self) -> Iterator[dict[str, Any]]:
        with locked(self._path.with_name(f"{FILE}.lock")):
            state = self._read()
            now = self._clock()
            account = state["accounts"].setdefault(self._limits.account, {"at": now, "requests": 1.0, "tokens": 0.0})
            passed = max(0.0, now - account["at"])
            account["at"] = now
            for name, per_minute in self._rates.items():
                account[name] = min(_burst(per_minute), account[name] + per_minute * passed / 60)
            self.not_before = max(self.not_before, account.get("not_before", 0.0))
            yield state
            write_state(self._path, state)

    def _read(self) -> dict[str, Any]:
        """The state; where there is none yet, what the ledger knows. Raises InputError: the file is damaged."""
        state = read_state(self._path)
        if state is not None:
            return state
        return {"answered": ledger.spent(self._path.parent), "unanswered": 0.0, "leased": {}, "accounts": {}}


def _burst(per_minute: float) -> float:
    return max(1.0, per_minute * BURST_SECONDS / 60)


class Unlimited:
    """A budget for servers of our own: nothing is counted, and pauses are this process's alone."""

    not_before = 0.0
    spent = 0.0

    def reserve(self, tokens: int, usd: float) -> Grant:
        return Grant(True)

    def settle(self, reserved_tokens: int, reserved_usd: float, tokens: int, usd: float, answered: bool = True) -> None:
        pass

    def sync(self, force: bool = False) -> None:
        pass

    def pause(self, until: float) -> None:
        self.not_before = max(self.not_before, until)
