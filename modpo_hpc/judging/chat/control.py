"""Pace and patience: how many calls at once, when a failed one is tried again, when to give up. No clock inside."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from modpo_hpc.judging.chat.wire import Failed

LIMITS = {"rate": 100, "server": 6, "connection": 30, "malformed": 3, "lost": 5}
"""Tries of one call, by the kind of its failures; ``lost`` are calls whose worker died."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
RISE, FALL = 1.0, 0.5
_START = 16.0


@dataclass
class Window:
    """How many calls may be out at once. Only a 429 lowers it (additive rise, multiplicative fall).

    Until the first 429 it doubles with every window of answers, from ``_START`` up. Calls that were sent before a
    fall tell nothing new about it, so one burst of 429s makes one fall.
    """

    most: int
    size: float = field(init=False)
    _steep: bool = field(default=True, init=False)
    _fell_at: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self.size = min(_START, self.most)

    @property
    def limit(self) -> int:
        return max(1, int(self.size))

    def answered(self) -> None:
        """A call came back well."""
        self.size = min(float(self.most), self.size + (1.0 if self._steep else RISE / self.size))

    def too_fast(self, sent_at: float, now: float) -> None:
        """A call that was sent at ``sent_at`` came back with 429."""
        self._steep = False
        if sent_at > self._fell_at:
            self.size = max(1.0, self.size * FALL)
            self._fell_at = now


def delay(failure: Failed, tries: int, rng: random.Random) -> float:
    """Seconds until try number ``tries`` + 1: what the server asked for, else back-off with full jitter."""
    if failure.kind == "lost":
        return 0.0
    if failure.after is not None:
        return min(failure.after, 10 * LONGEST_DELAY) + rng.uniform(0, FIRST_DELAY)
    return rng.uniform(0.1, 1.0) * float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries, 10)))


def is_spent(failure: Failed, tries_of_kind: int) -> bool:
    """Whether a call that failed so often in this way is given up."""
    return tries_of_kind >= LIMITS[failure.kind]


@dataclass
class Breaker:
    """Tells one poisoned call from an endpoint that is down: trips when given-up calls are no longer exceptions."""

    answered: int = 0
    given_up: int = 0
    refused: int = 0

    def is_open(self) -> bool:
        """Whether to stop: more than 10 calls and 2 in 100 were given up, or the first 50 were all refused."""
        return self.given_up > max(10, 0.02 * self.answered) or (self.answered == 0 and self.refused >= 50)
