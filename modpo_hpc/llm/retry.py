"""Pace and patience: how many calls at once, when a failed one is tried again, what an outage is. No clock inside."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from modpo_hpc.llm.outcomes import Failed

TRIES = {"server": 6, "connection": 6, "timeout": 3, "malformed": 3, "lost": 5}
"""Tries of one call, by the kind of its failures, while others are answered; ``lost`` calls had a worker that died."""

FIRST_DELAY, LONGEST_DELAY, LONGEST_PROBE = 0.5, 60.0, 15.0
LONGEST_RETRY_AFTER = 900.0
"""However long a server asks to wait, it is asked again after so many seconds."""
OUTAGE_AFTER = 8
"""Failures in a row, with no answer between them, that are an outage."""
FALL = 0.5
_PASSING = (408, 409, 425, 429)
_START = 16.0


@dataclass
class Window:
    """How many calls may be out at once. Only a 429 lowers it.

    Until the first 429 it doubles with every window of answers, from ``_START`` up. After a fall it grows by 1 with
    the first window of answers, by 2 with the second, and so on. Calls that were sent before a fall tell nothing new
    about it, so one burst of 429s makes one fall.
    """

    most: int
    size: float = field(init=False)
    _steep: bool = field(default=True, init=False)
    _windows: float = field(default=0.0, init=False)
    _fell_at: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self.size = min(_START, self.most)

    @property
    def limit(self) -> int:
        return max(1, int(self.size))

    def answered(self) -> None:
        """A call came back well."""
        self._windows += 1 / self.size
        self.size = min(float(self.most), self.size + (1.0 if self._steep else (1.0 + self._windows) / self.size))

    def restart(self) -> None:
        """An outage is over: begin as at the start."""
        self.size, self._steep = min(_START, self.size), True

    def too_fast(self, sent_at: float, now: float) -> bool:
        """A call that was sent at ``sent_at`` came back with 429; whether that is news."""
        if sent_at <= self._fell_at:
            return False
        self._steep, self._windows = False, 0.0
        self.size = max(1.0, self.size * FALL)
        self._fell_at = now
        return True


@dataclass
class Outage:
    """Tells an endpoint that is down from calls that fail by themselves, and when to try whether it is back."""

    failures: int = 0
    probes: int = 0
    next_probe: float = 0.0
    last_answer: float = 0.0
    answered: int = 0

    @property
    def is_on(self) -> bool:
        return self.failures >= OUTAGE_AFTER

    def heard(self, now: float) -> bool:
        """The endpoint answered something; whether an outage ends with it."""
        ended = self.is_on
        self.failures = self.probes = 0
        self.last_answer = now
        self.answered += 1
        return ended

    def failed(self, now: float, asked: float, rng: random.Random) -> bool:
        """A call failed in a way that an endpoint that is down would make it fail; whether an outage begins with it.

        ``asked``: seconds that the endpoint asked to wait.
        """
        self.failures += 1
        if self.is_on and now >= self.next_probe:
            self.next_probe = now + rng.uniform(0.75, 1.0) * min(
                LONGEST_PROBE, FIRST_DELAY * 2.0 ** min(self.probes, 8)
            )
            self.probes += 1
        self.next_probe = max(self.next_probe, now + asked)
        return self.failures == OUTAGE_AFTER


def is_passing(status: int) -> bool:
    """Whether the same request may be answered later, though now it got this HTTP status."""
    return status in _PASSING or status >= 500


def delay(tries: int, rng: random.Random) -> float:
    """Seconds until try number ``tries`` + 1: exponential back-off with jitter."""
    return rng.uniform(0.5, 1.0) * min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(tries - 1, 10))


def pause(failure: Failed, level: int, rng: random.Random) -> float:
    """Seconds for which nobody asks after a 429: what the server says, else back-off by ``level`` (from 1)."""
    if failure.after is not None:
        return min(failure.after, LONGEST_RETRY_AFTER) + rng.uniform(0.0, 0.1 * min(failure.after, 5.0))
    return delay(level, rng)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a reply asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as a date (RFC 9110).

    What is neither, is not finite or lies in the past is None.
    """
    known = {name.lower(): value.strip() for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(known[name]) * unit
        except (KeyError, ValueError):
            continue
        if 0.0 <= seconds < float("inf"):
            return seconds
    try:
        due = parsedate_to_datetime(known["retry-after"])
        due = due if due.tzinfo else due.replace(tzinfo=timezone.utc)
        seconds = (due - (now or datetime.now(timezone.utc))).total_seconds()
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None
    return seconds if seconds > 0 else None
