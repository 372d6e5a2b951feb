"""The queue of calls of a judging job: first answers in the order of the requests, and the repairs that they need.

It knows requests, ledger, claims and judgments, and nothing of sending.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from modpo_hpc.errors import InputError
from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.opinions import Judgment, Tally, form_of, judgment_of
from modpo_hpc.judging.repair import messages_after, problem_of
from modpo_hpc.judging.tasks import Unparsed, answer_schema
from modpo_hpc.llm.chat import ChatPayload, first_messages
from modpo_hpc.llm.client import Finished, PendingCall
from modpo_hpc.llm.ledger import Entry
from modpo_hpc.llm.outcomes import Answered, Call
from modpo_hpc.llm.store import Known

log = logging.getLogger(__name__)

LOOK_AHEAD = 512
MakeCall = Callable[[int, bytes, ChatPayload], Call]


@dataclass
class JudgingCall(PendingCall):
    """A call on the requests ``numbers``, after the answers ``chain`` that could not be read."""

    numbers: list[int] = field(default_factory=list)
    chain: list[Entry] = field(default_factory=list)


class JudgingQueue:
    """The calls of a job, and the judgments that come of them.

    Args:
        make_call: a call of the judge's API from its number, key and conversation.
    """

    def __init__(self, job: JudgingJob, make_call: MakeCall) -> None:
        self._job, self._make_call = job, make_call
        self.tally = Tally()
        self.judgments: list[Judgment | None] = [None] * len(job.requests)
        self._first = self._first_calls()
        self._exhausted = self._gave_up = False
        self._unclaimed: dict[bytes, JudgingCall] = {}
        self._ready: list[JudgingCall] = []
        self._elsewhere: dict[bytes, JudgingCall] = {}
        self._by_key: dict[bytes, JudgingCall] = {}

    @property
    def left(self) -> int:
        return sum(judgment is None for judgment in self.judgments) - self.tally.not_asked

    def next(self) -> JudgingCall | None:
        """The next call, repairs before others; None if there is none now."""
        self._claim()
        if not self._ready and not self._exhausted:
            if (first := next(self._first, None)) is not None:
                return first
            self._claim()
        if not self._ready and self._elsewhere and (known := self._job.store.look_again(list(self._elsewhere))):
            waiting, self._elsewhere = self._elsewhere, {}
            self._sort(waiting, known)
        return self._ready.pop() if self._ready else None

    def is_finished(self) -> bool:
        """Whether nothing will have to be asked any more."""
        return self._exhausted and not (self._unclaimed or self._ready or self._elsewhere)

    def finished(self, calls: Sequence[Finished]) -> None:
        """Write the answers down, then act on what they say."""
        kept: list[tuple[JudgingCall, Entry]] = []
        other, wanted = None, self._job.settings.snapshot
        for one, outcome in calls:
            assert isinstance(one, JudgingCall)
            if wanted and isinstance(outcome, Answered) and outcome.model != wanted:
                other = outcome.model
                continue
            request = self._job.requests[one.numbers[0]]
            entry = one.entry(outcome, self._job.settings.model, request.task, form_of(request), len(request.shown))
            kept.append((one, entry))
        self._job.store.append([entry for _, entry in kept])
        if other is not None:
            raise InputError(
                f"the endpoint answers as another model ({other!r})",
                field="judge.snapshot",
                value=wanted,
                remedy="Name that one, or leave judge.snapshot out; answers of the model that you named are kept.",
            )
        for one, entry in kept:
            self._by_key.pop(entry.key, None)
            self.tally.paid(entry)
            for number in one.numbers:
                self._advance(number, [*one.chain, entry])

    def put_back(self, call: JudgingCall) -> None:
        """``call`` has to be asked again."""
        self._ready.append(call)

    def given_up(self, call: PendingCall, reason: str) -> None:
        """There will be no answer to ``call``."""
        assert isinstance(call, JudgingCall)
        self._gave_up = True
        self._by_key.pop(call.call.key, None)
        for number in call.numbers:
            opinions = (Unparsed(reason),) * len(self._job.requests[number].criteria)
            self._settle(number, Judgment(opinions, (call.call.key,) * len(opinions)), [])

    def _first_calls(self) -> Iterator[JudgingCall | None]:
        """What has to be asked, in the order of the requests; what the ledger knows is judged on the way.

        None while a round has to wait for the one before it.
        """
        requests, keys, is_open = self._job.requests, self._job.keys, self._job.is_open
        for numbers in self._job.batches(LOOK_AHEAD):
            if self._job.begins_round(numbers.start):
                while self.tally.judged + self.tally.not_asked < numbers.start:
                    yield None
                if self._gave_up and self._job.settings.unanswered == "fail":
                    break  # what the next round has to ask hangs on calls that the next attempt makes
            wanted = {number: keys.key(requests[number]) for number in numbers if is_open(number)}
            self.tally.not_asked += len(numbers) - len(wanted)
            known = self._job.store.look_up([key for key in wanted.values() if key not in self._by_key])
            for number, key in wanted.items():
                entry = known.entries.get(key)
                if entry is not None:
                    self.tally.from_ledger += 1
                    self._advance(number, [entry])
                elif key in self._by_key:
                    self._by_key[key].numbers.append(number)
                elif added := self._job.store.ledger.just_added(key):  # since this batch was looked up
                    self._advance(number, [added])
                elif not is_open(number):
                    self.tally.not_asked += 1
                else:
                    call = self._call(number, key, [])
                    if key in known.ours:
                        yield call
                    else:
                        self._elsewhere[key] = call
        self._exhausted = True

    def _call(self, number: int, key: bytes, chain: list[Entry]) -> JudgingCall:
        request = self._job.requests[number]
        keys = self._job.keys
        messages = messages_after(first_messages(keys.prompt(request)), chain, keys.harmless)
        seed = self._job.settings.sampling_seed
        more = {"seed": seed + request.sample} if request.sample and seed is not None else {}
        call = self._make_call(number, key, ChatPayload(messages, answer_schema(request), more))
        self._by_key[key] = JudgingCall(call, numbers=[number], chain=chain)
        return self._by_key[key]

    def _advance(self, number: int, chain: list[Entry]) -> None:
        """Judge a request by the answers so far, or ask for the repair that the last of them calls for."""
        if len(chain) <= self._job.settings.repair_rounds and (problem := problem_of(chain[-1])):
            key = self._job.keys.repair_key(chain[-1].key, chain[-1].answer or "", problem)
            if key in self._by_key:
                self._by_key[key].numbers.append(number)
            else:
                self._unclaimed[key] = self._call(number, key, chain)
            return
        self._settle(number, judgment_of(chain), chain)

    def _claim(self) -> None:
        """Find out which repairs are known, which are ours to ask, and which others are asking."""
        while self._unclaimed:
            waiting, self._unclaimed = self._unclaimed, {}
            self._sort(waiting, self._job.store.look_up(list(waiting)))

    def _sort(self, waiting: Mapping[bytes, JudgingCall], known: Known) -> None:
        for key, call in waiting.items():
            if key in known.entries:
                self._by_key.pop(key, None)
                self.tally.from_ledger += len(call.numbers) if not call.chain else 0
                for number in call.numbers:
                    self._advance(number, [*call.chain, known.entries[key]])
            elif key in known.ours:
                self.tally.repairs += bool(call.chain)
                self._ready.append(call)
            else:
                self._elsewhere[key] = call

    def _settle(self, number: int, judgment: Judgment, chain: Sequence[Entry]) -> None:
        self.judgments[number] = judgment
        self.tally.count(judgment)
        for entry in chain[-1:]:
            if self.tally.snapshots and entry.judge not in self.tally.snapshots:
                log.warning("the model calls itself %s now; before, %s", entry.judge, ", ".join(self.tally.snapshots))
            self.tally.snapshots[entry.judge] += 1
        self._job.on_judgment(number, judgment)
