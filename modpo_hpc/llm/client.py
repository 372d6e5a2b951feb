"""The client: calls of a queue go out through a pool of senders, under the window, the pace and the budget.

One thread decides everything here: what is sent next, what is tried again and when, what is given up. A pool only
sends. What a call came to is the queue's to keep, and it counts when it is on disk.
"""

from __future__ import annotations

import heapq
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.llm import retry
from modpo_hpc.llm.budget import Budget, SpendingLimit, Unlimited
from modpo_hpc.llm.chat import STRONGEST_FIRST, ChatApi
from modpo_hpc.llm.ledger import Entry, Usage
from modpo_hpc.llm.outcomes import Answered, Api, Call, Failed, FormatRejected, Refused
from modpo_hpc.llm.pool import Pool
from modpo_hpc.llm.sender import Reply
from modpo_hpc.study.endpoint import Endpoint

log = logging.getLogger(__name__)

DRAIN_SECONDS = 0.25
GRACE_SECONDS = 15.0
MOST_GIVEN_UP, MOST_GIVEN_UP_SHARE = 10, 0.02
MOST_REFUSED = 50
MOST_PROBES = 6
_REJECTIONS = 6


class EndpointFailed(ModpoError):
    """The endpoint does not answer what it is asked. All answers so far are kept, and the shard can go on later."""


@dataclass
class PendingCall:
    """A call that has to be made: what it reserved, its tries by kind of failure."""

    call: Call
    usd: float = 0.0
    out_since: float = 0.0
    first_failed: float = 0.0
    tries: dict[str, int] = field(default_factory=Counter)
    rejections: int = 0

    @property
    def tokens(self) -> int:
        return self.call.input_tokens + self.call.output_tokens

    @property
    def sent(self) -> int:
        return 1 + sum(self.tries.values())

    def most_usd(self, api: Api) -> float:
        """US dollars that it may cost."""
        return api.cost(Usage(self.call.input_tokens, self.call.output_tokens))

    def with_usage(self, outcome: Answered | Refused) -> Answered | Refused:
        """``outcome`` with what was reserved for its usage, where the endpoint told none that can be true."""
        if outcome.usage is not None:
            return outcome
        usage = Usage(self.call.input_tokens, self.call.output_tokens, 0, self.usd, estimated=True)
        return replace(outcome, usage=usage)

    def entry(
        self, outcome: Answered | Refused, model: str, task: str, criteria: tuple[str, ...] = (), shown: int = 0
    ) -> Entry:
        """What the ledger keeps of an answer of ``model`` or of its refusal; see :class:`Entry`."""
        answered = outcome if isinstance(outcome, Answered) else None
        return Entry(
            key=self.call.key,
            answer=answered.text if answered else None,
            task=task,
            criteria=criteria,
            shown=shown,
            judge=(answered.model if answered else "") or model,
            refusal=outcome.reason if isinstance(outcome, Refused) else None,
            finish=answered.finish if answered else None,
            usage=outcome.usage or Usage(),
            tries=self.sent,
            at=round(time.time(), 1),
        )


Finished = tuple[PendingCall, Answered | Refused]


class Queue(Protocol):
    """What has to be asked, and who keeps the answers."""

    def next(self) -> PendingCall | None:
        """The next call; None if there is none now."""

    def is_finished(self) -> bool:
        """Whether nothing will have to be asked any more, once what is out has come back."""

    def finished(self, calls: Sequence[Finished]) -> None:
        """Keep what these calls came to; it is on disk when this returns. Every ``usage`` is known by now."""

    def given_up(self, call: PendingCall, reason: str) -> None:
        """There will be no answer to ``call``."""

    @property
    def left(self) -> int:
        """How much is still without an answer."""


class Client:
    """Gets the answers that ``queue`` asks for, through ``pool`` and within ``budget``.

    Args:
        api: form of requests and replies; becomes simpler as the endpoint rejects parts of it.
        settings: window, timeouts, price and limits.
        check: called every second; raises when the work is to stop. What is out comes home first.
        on_progress: called every second.
        lost_after: seconds after which a call that is out counts as lost.
    """

    def __init__(
        self,
        queue: Queue,
        api: Api,
        settings: Endpoint,
        pool: Pool,
        budget: Budget | Unlimited,
        check: Callable[[], None] = lambda: None,
        on_progress: Callable[[], None] = lambda: None,
        lost_after: float | None = None,
    ) -> None:
        self._queue, self._api, self._settings = queue, api, settings
        self._pool, self._budget = pool, budget
        self._check, self._on_progress = check, on_progress
        self._lost_after = lost_after or 3 * settings.timeout_seconds + 120
        self.failures: Counter[str] = Counter()
        self.not_answered: list[str] = []
        """Reasons of the calls that were given up."""
        self.window = retry.Window(settings.window)
        self._outage = retry.Outage(last_answer=time.time())
        self._rng = random.Random()
        self._refused_in_a_row = self._rate_level = 0
        self._told_to_wait = 0.0
        self._held: PendingCall | None = None
        self._out: dict[int, PendingCall] = {}
        self._later: list[tuple[float, int, PendingCall]] = []
        self._limit = self._serial = 0
        self._budget_says = 0.0
        self._stop: Exception | None = None
        self._stop_by = float("inf")

    def run(self) -> None:
        """Ask until the queue is finished.

        Raises:
            SpendingLimit: the limit of dollars is reached.
            EndpointFailed: the endpoint is down for longer than ``outage_minutes``, or did not answer some calls.
            InputError: wrong key, model or setting.
            Exception: what ``check`` raises.
        """
        spoke = time.monotonic()
        while True:
            if self._stop is None:
                self._fill()
            if not self._out and (self._stop is not None or self._is_finished()):
                break
            if time.monotonic() > self._stop_by:
                break
            self._take(self._pool.drain(self._wait_seconds()))
            if time.monotonic() - spoke >= 1.0:
                spoke = time.monotonic()
                self._every_second()
        self._on_progress()
        if self._stop is None and self.not_answered and self._settings.unanswered == "fail":
            self._stop = self._some_unanswered()
        if self._stop is not None:
            raise self._stop

    def _every_second(self) -> None:
        self._on_progress()
        self._budget.sync()
        lost = time.time() - self._lost_after
        overdue = [number for number, one in self._out.items() if one.out_since < lost]
        failure = Failed("lost", f"nothing came back within {self._lost_after:g} s", charged=True)
        self._take([Reply(number, failure, self._out[number].out_since, self._lost_after) for number in overdue])
        self._look_at_outage()
        try:
            self._check()
        except ModpoError as stop:
            self._end(stop)

    def _is_finished(self) -> bool:
        return self._held is None and not self._later and self._queue.is_finished()

    def _fill(self) -> None:
        """Send what the window, the pace and the budget allow; in an outage one probe at a time."""
        given: list[Call] = []
        while len(self._out) < self._room and time.time() >= self._closed_until:
            one = self._next()
            if one is None:
                break
            one.usd = one.most_usd(self._api)
            grant = self._budget.reserve(one.tokens, one.usd)
            if not grant.granted:
                self._held = one
                if grant.wait is None:
                    self._end(self._spending_limit())
                else:
                    self._budget_says = time.time() + grant.wait
                break
            self._serial += 1
            self._out[self._serial] = one
            one.out_since = time.time()
            given.append(replace(one.call, number=self._serial))
        if given or self.window.limit != self._limit:
            self._limit = self.window.limit
            self._pool.feed(given, self._api, self._limit)

    def _next(self) -> PendingCall | None:
        if self._held is not None:
            one, self._held = self._held, None
            return one
        if self._later and self._later[0][0] <= time.monotonic():
            return heapq.heappop(self._later)[2]
        return self._queue.next()

    def _wait_seconds(self) -> float:
        """Seconds for which there is nothing to do but to wait for replies."""
        if self._stop is not None or len(self._out) >= self._room:
            return DRAIN_SECONDS
        if (closed := self._closed_until - time.time()) > 0:
            return min(DRAIN_SECONDS, closed)
        due = self._later[0][0] - time.monotonic() if self._later else DRAIN_SECONDS
        return max(0.002, min(DRAIN_SECONDS, due))

    @property
    def _closed_until(self) -> float:
        """Moment before which nothing is sent."""
        probe = self._outage.next_probe if self._outage.is_on else 0.0
        return max(self._budget_says, self._budget.not_before, probe)

    @property
    def _room(self) -> int:
        """Calls that may be with the senders: a few more than may be open, so that these never wait for us."""
        if self._outage.is_on:
            return 1
        return self.window.limit + max(2 * self._pool.workers, self.window.limit // 2)

    def _take(self, replies: Sequence[Reply]) -> None:
        """Keep what came back, then act on what did not."""
        finished: list[Finished] = []
        for reply in replies:
            one = self._out.pop(reply.number, None)
            if one is None:
                continue  # it was taken for lost, and has come back after all
            outcome = reply.outcome
            if isinstance(outcome, (Answered, Refused)):
                finished.append((one, one.with_usage(outcome)))
                continue
            charged = isinstance(outcome, Failed) and outcome.charged
            self._budget.settle(
                one.tokens, one.usd, one.tokens if charged else 0, one.usd if charged else 0.0, answered=False
            )
            if isinstance(outcome, Failed):
                self._again(one, outcome, reply)
            elif isinstance(outcome, FormatRejected):
                self._simpler_request(one, outcome)
            else:
                self._end(InputError(outcome.problem, field=outcome.field, remedy=outcome.remedy))
        if replies:
            self._budget_says = 0.0  # what came back may have refilled the budget
        if finished:
            self._queue.finished(finished)
            for one, outcome in finished:
                usage = outcome.usage or Usage()
                self._budget.settle(one.tokens, one.usd, usage.read + usage.written, usage.usd)
                self._answered(outcome)

    def _answered(self, outcome: Answered | Refused) -> None:
        if self._outage.heard(time.time()):
            log.warning("the endpoint answers again")
            self.window.restart()
        if isinstance(outcome, Refused):
            self._refused_in_a_row += self._outage.answered == self._refused_in_a_row + 1
            if self._refused_in_a_row >= MOST_REFUSED:
                self._end(self._failure(f"the first {MOST_REFUSED} calls were refused; the last: {outcome.reason}"))
            return
        self._rate_level = 0
        self.window.answered()

    def _again(self, one: PendingCall, failure: Failed, reply: Reply) -> None:
        self.failures[failure.kind] += 1
        now, asked = time.time(), min(failure.after or 0.0, retry.LONGEST_RETRY_AFTER)
        if failure.after is not None and failure.after > 30 * self._settings.outage_minutes:
            self._told_to_wait = now + asked
        if failure.kind == "rate":
            self._slow_down(failure, reply.sent_at, now)
            self._try_later(one, 0.0)
            return
        if failure.kind != "lost" and self._outage.failed(now, asked, self._rng):
            log.warning("the endpoint seems to be down (%s); asking now and then if it is back", failure.detail)
        if failure.kind == "malformed" and self._outage.probes > MOST_PROBES and not self._outage.answered:
            self._end(self._failure(f"this is no endpoint of the kind that is expected: {failure.detail}"))
        if self._outage.is_on:
            self._try_later(one, 0.0)  # an outage is not the call's fault
            return
        one.tries[failure.kind] += 1
        one.first_failed = one.first_failed or now
        tries = one.tries[failure.kind]
        if self._outage.last_answer > one.first_failed and tries >= retry.TRIES[failure.kind]:
            self._give_up(one, f"given up after {one.sent - 1} tries: {failure.detail}")
            return
        self._try_later(one, max(asked, 0.0 if failure.kind == "lost" else retry.delay(tries, self._rng)))

    def _slow_down(self, failure: Failed, sent_at: float, now: float) -> None:
        """Nobody asks for a while, and fewer at once after it; calls of one burst say it once."""
        if self.window.too_fast(sent_at, now):
            self._rate_level += failure.after is None
            wait = retry.pause(failure, self._rate_level, self._rng)
            self._budget.pause(now + wait)
            log.info("asked to slow down: nothing is sent for %.1f s, then %d at once", wait, self.window.limit)
        elif failure.after is not None and now + failure.after > self._budget.not_before:
            self._budget.pause(now + min(failure.after, retry.LONGEST_RETRY_AFTER))

    def _give_up(self, one: PendingCall, reason: str) -> None:
        log.warning("a call was %s", reason)
        self.not_answered.append(reason)
        self._queue.given_up(one, reason)
        if len(self.not_answered) > self._most_given_up:
            self._end(self._failure(reason))

    @property
    def _most_given_up(self) -> float:
        return max(MOST_GIVEN_UP, MOST_GIVEN_UP_SHARE * self._outage.answered)

    def _try_later(self, one: PendingCall, seconds: float) -> None:
        self._serial += 1
        heapq.heappush(self._later, (time.monotonic() + seconds, self._serial, one))

    def _look_at_outage(self) -> None:
        """End the work when nothing was answered for too long."""
        allowed = 60 * self._settings.outage_minutes
        silent = time.time() - max(self._outage.last_answer, self._told_to_wait)
        if self._stop is not None or silent < allowed or not self.failures:
            return
        if self._settings.unanswered == "unparsed" and not self._held and self._queue.is_finished():
            waiting = [one for _, _, one in self._later]
            if len(waiting) + len(self._out) + len(self.not_answered) <= self._most_given_up:
                self._later.clear()
                for one in waiting:
                    self._give_up(one, f"given up after {self._settings.outage_minutes:g} minutes without an answer")
                return
        self._end(self._failure(f"no answer for {self._settings.outage_minutes:g} minutes"))

    def _simpler_request(self, one: PendingCall, outcome: FormatRejected) -> None:
        one.rejections += 1
        if one.rejections > _REJECTIONS:
            self._end(EndpointFailed(f"the endpoint takes no form of request that we know: {outcome.detail}"))
        elif outcome.api != self._api:
            log.warning("the endpoint does not take a part of the request (%s); going on without it", outcome.detail)
            self._api = _weaker(self._api, outcome.api)
        self._try_later(one, 0.0)

    def _end(self, why: Exception) -> None:
        """Send nothing more; what is out may come home for a while, since it is paid for."""
        if self._stop is None:
            self._stop = why
            self._stop_by = time.monotonic() + GRACE_SECONDS

    def _spending_limit(self) -> SpendingLimit:
        return SpendingLimit(
            f"the spending limit of ${self._settings.max_usd:.2f} is reached (${self._budget.spent:.2f} spent); "
            f"{self._queue.left} calls of this shard are not made. Every answer so far is kept. To go on, raise "
            "the limit with MODPO_JUDGE_MAX_USD and give the same command again."
        )

    def _failure(self, detail: str) -> EndpointFailed:
        seen = ", ".join(f"{count} x {kind}" for kind, count in self.failures.most_common()) or "refusals only"
        return EndpointFailed(
            f"the endpoint is failing ({seen}; {detail}). Every answer so far is kept; when it is well again, give "
            "the same command again."
        )

    def _some_unanswered(self) -> EndpointFailed:
        return EndpointFailed(
            f"{len(self.not_answered)} calls got no answer (the last was {self.not_answered[-1]}); all others are "
            "kept. Give the same command again; to count them as unparsed instead, set MODPO_JUDGE_UNANSWERED=unparsed."
        )


def _weaker(present: Api, asked: Api) -> Api:
    if not isinstance(present, ChatApi) or not isinstance(asked, ChatApi):
        return asked
    return replace(asked, structured=max(present.structured, asked.structured, key=STRONGEST_FIRST.index))
