"""The flow of calls: errands from the agenda go out through a pool of senders, under the window and the budget.

One thread decides everything here: what is sent next, what is tried again and when, what is written down. A pool only
sends. An answer counts when it is in the ledger, so a kill costs at most the calls that were out.
"""

from __future__ import annotations

import heapq
import logging
import random
import time
from collections.abc import Sequence

from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.judging.chat import control
from modpo_hpc.judging.chat.agenda import Agenda, Errand
from modpo_hpc.judging.chat.budget import Budget, SpendingLimit
from modpo_hpc.judging.chat.pool import Pool
from modpo_hpc.judging.chat.sender import Reply
from modpo_hpc.judging.chat.wire import STRONGEST_FIRST, Answered, Call, Dialect, Failed, Misunderstood, Refused, cost
from modpo_hpc.judging.inquiry import Inquiry
from modpo_hpc.judging.ledger import Entry, Usage
from modpo_hpc.judging.opinions import Judgment, form_of

log = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 3.5
DRAIN_SECONDS = 0.25
GRACE_SECONDS = 15.0
_MISUNDERSTANDINGS = 6


class JudgeFailed(ModpoError):
    """The judge cannot go on. All answers so far are in the ledger."""


class Flow:
    """Gets the judgments that ``inquiry`` asks for, through ``pool`` and within ``budget``.

    When the inquiry's ``check`` raises, what is out comes home first.
    """

    def __init__(self, inquiry: Inquiry, pool: Pool, budget: Budget) -> None:
        self._inquiry, self._settings = inquiry, inquiry.settings
        self._pool, self._budget = pool, budget
        self._agenda = Agenda(inquiry)
        self.tally = self._agenda.tally
        self.window = control.Window(self._settings.window)
        self._dialect = Dialect(self._settings.structured, _token_field(self._settings.base_url))
        self._breaker = control.Breaker()
        self._rng = random.Random()
        self._held: Errand | None = None
        self._out: dict[int, Errand] = {}
        self._later: list[tuple[float, int, Errand]] = []
        self._loads = [0] * pool.workers
        self._limits = [0] * pool.workers
        self._serial = 0
        self._not_before = 0.0
        self._stop: Exception | None = None
        self._stop_by = float("inf")

    def run(self) -> list[Judgment | None]:
        """All judgments, in the order of the requests.

        Raises:
            Interrupted: ``check`` asked to stop.
            SpendingLimit: the limit of dollars is reached.
            JudgeFailed: the endpoint is down, or gives up on more than a few calls.
            InputError: wrong key, model or setting.
        """
        spoke = 0.0
        while True:
            if self._stop is None:
                self._fill()
            if not self._out and (self._stop is not None or self._is_finished()):
                break
            if time.monotonic() > self._stop_by:
                break
            self._take(self._pool.drain(self._patience()))
            if time.monotonic() - spoke >= 1.0:
                spoke = time.monotonic()
                self._inquiry.on_progress(self.tally)
                self._ask_whether_to_stop()
        self._inquiry.on_progress(self.tally)
        if self._stop is not None:
            raise self._stop
        return self._agenda.judgments

    def _is_finished(self) -> bool:
        if self._held is None:
            self._held = self._agenda.next()
        return self._held is None and not self._later

    def _fill(self) -> None:
        """Send what the window and the budget allow."""
        given: dict[int, list[Call]] = {}
        room = self.window.limit + max(2 * self._pool.workers, self.window.limit // 2)
        while len(self._out) < room and time.monotonic() >= self._not_before:
            one = self._next()
            if one is None:
                break
            one.tokens = int(one.call.characters / CHARACTERS_PER_TOKEN) + self._settings.max_tokens
            read = one.tokens - self._settings.max_tokens
            one.usd = cost(self._settings.price, read, self._settings.max_tokens)
            grant = self._budget.reserve(one.tokens, one.usd)
            if not grant.granted:
                self._held = one
                if grant.wait is None:
                    self._end(self._spending_limit())
                else:
                    self._not_before = time.monotonic() + grant.wait
                break
            one.worker = min(range(self._pool.workers), key=self._loads.__getitem__)
            self._loads[one.worker] += 1
            self._serial += 1
            self._out[self._serial] = one
            call = Call(self._serial, one.call.key, one.call.messages, one.call.schema)
            given.setdefault(one.worker, []).append(call)
        for worker in range(self._pool.workers):
            limit = max(1, (self.window.limit + worker) // self._pool.workers)
            if worker in given or limit != self._limits[worker]:
                self._limits[worker] = limit
                self._pool.feed(worker, given.get(worker, []), self._dialect, limit)

    def _next(self) -> Errand | None:
        if self._held is not None:
            one, self._held = self._held, None
            return one
        if self._later and self._later[0][0] <= time.monotonic():
            return heapq.heappop(self._later)[2]
        return self._agenda.next()

    def _patience(self) -> float:
        until = [DRAIN_SECONDS]
        if self._later and self._stop is None:
            until.append(self._later[0][0] - time.monotonic())
        if self._not_before > time.monotonic():
            until.append(self._not_before - time.monotonic())
        return max(0.001, min(until))

    def _take(self, replies: Sequence[Reply]) -> None:
        """Write down what came back, then act on it."""
        entries: list[tuple[Errand, Entry]] = []
        if replies:
            self._not_before = 0.0  # what comes back may have refilled the budget
        for reply in replies:
            one = self._out.pop(reply.number)
            self._loads[one.worker] -= 1
            outcome = reply.outcome
            usage = outcome.usage if isinstance(outcome, (Answered, Refused)) else Usage()
            self._budget.settle(one.tokens, one.usd, usage.read + usage.written, usage.usd)
            if isinstance(outcome, (Answered, Refused)):
                entries.append((one, self._entry(one, outcome)))
            elif isinstance(outcome, Failed):
                self._again(one, outcome, reply)
            elif isinstance(outcome, Misunderstood):
                self._other_dialect(one, outcome)
            else:
                self._end(InputError(outcome.problem, field=outcome.field, remedy=outcome.remedy))
        self._inquiry.ledger.append([entry for _, entry in entries])
        for one, entry in entries:
            self._agenda.answered(one, entry)
        if self._breaker.is_open():
            self._end(self._failure())

    def _entry(self, one: Errand, outcome: Answered | Refused) -> Entry:
        request = self._agenda.request_of(one)
        answered = isinstance(outcome, Answered)
        if answered:
            self._breaker.answered += 1
            self.window.answered()
        else:
            self._breaker.refused += 1
        return Entry(
            key=one.call.key,
            answer=outcome.text if isinstance(outcome, Answered) else None,
            task=request.task,
            criteria=form_of(request),
            shown=len(request.shown),
            judge=(outcome.model if isinstance(outcome, Answered) else "") or self._settings.model,
            refusal=outcome.reason if isinstance(outcome, Refused) else None,
            finish=outcome.finish if isinstance(outcome, Answered) else None,
            usage=outcome.usage,
            tries=one.sent,
            at=round(time.time(), 1),
        )

    def _again(self, one: Errand, failure: Failed, reply: Reply) -> None:
        self.tally.failures[failure.kind] += 1
        one.tries[failure.kind] += 1
        if failure.kind == "rate":
            self.window.too_fast(reply.sent_at, time.time())
        if not control.is_spent(failure, one.tries[failure.kind]):
            due = time.monotonic() + control.delay(failure, one.tries[failure.kind], self._rng)
            self._serial += 1
            heapq.heappush(self._later, (due, self._serial, one))
            return
        self._breaker.given_up += 1
        reason = f"given up after {one.sent - 1} tries: {failure.detail}"
        log.warning("a call was %s", reason)
        if failure.kind in ("connection", "lost", "rate"):
            self._end(self._failure(reason))
            return
        self._agenda.given_up(one, reason)

    def _other_dialect(self, one: Errand, outcome: Misunderstood) -> None:
        one.misunderstood += 1
        if one.misunderstood > _MISUNDERSTANDINGS:
            self._end(JudgeFailed(f"the endpoint takes no form of request that we know: {outcome.detail}"))
        elif outcome.dialect != self._dialect:
            log.warning("the endpoint does not take a part of the request (%s); going on without it", outcome.detail)
            self._dialect = _weaker(self._dialect, outcome.dialect)
        heapq.heappush(self._later, (time.monotonic(), self._serial, one))
        self._serial += 1

    def _ask_whether_to_stop(self) -> None:
        try:
            self._inquiry.check()
        except ModpoError as stop:
            self._end(stop)

    def _end(self, why: Exception) -> None:
        """Send nothing more; what is out may come home for a while, since it is paid for."""
        if self._stop is None:
            self._stop = why
            self._stop_by = time.monotonic() + GRACE_SECONDS

    def _spending_limit(self) -> SpendingLimit:
        left = sum(judgment is None for judgment in self._agenda.judgments)
        return SpendingLimit(
            f"the spending limit of ${self._settings.max_usd:.2f} is reached (${self._budget.spent:.2f} spent); "
            f"{left} judgments of this shard are not made. Every answer so far is kept. To go on, raise the limit "
            "with MODPO_JUDGE_MAX_USD and give the same command again."
        )

    def _failure(self, detail: str = "") -> JudgeFailed:
        seen = ", ".join(f"{count} x {kind}" for kind, count in self.tally.failures.most_common()) or "refusals only"
        return JudgeFailed(
            f"the judge is failing ({seen}{'; ' + detail if detail else ''}). Every answer so far is kept; when the "
            "endpoint is well again, give the same command again."
        )


def _weaker(present: Dialect, asked: Dialect) -> Dialect:
    return Dialect(max(present.structured, asked.structured, key=STRONGEST_FIRST.index), asked.token_field)


def _token_field(base_url: str) -> str:
    """OpenAI has renamed the field; most other servers know the old name only."""
    return "max_completion_tokens" if "api.openai.com" in base_url else "max_tokens"
