"""What has to be asked next: first answers in the order of the requests, and the repairs that answers call for.

It knows requests, ledger and judgments, and nothing of sending: ``flow`` takes calls from it and brings answers back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from modpo_hpc.judging.chat.conversation import messages_after, problem_of
from modpo_hpc.judging.chat.wire import Call, first_messages
from modpo_hpc.judging.inquiry import Inquiry
from modpo_hpc.judging.ledger import Entry
from modpo_hpc.judging.opinions import Judgment, Tally, batches, judgment_of
from modpo_hpc.judging.tasks import Request, Unparsed, answer_schema

LOOK_AHEAD = 512


@dataclass
class Errand:
    """A call that somebody has to make: who has it, what it reserved, its tries by kind of failure.

    ``numbers`` are the requests that its answer is for.
    """

    call: Call
    numbers: list[int]
    worker: int = -1
    tokens: int = 0
    usd: float = 0.0
    tries: Counter[str] = field(default_factory=Counter)
    misunderstood: int = 0

    @property
    def sent(self) -> int:
        return 1 + sum(self.tries.values())


class Agenda:
    """The errands of an inquiry, and the judgments that come of them."""

    def __init__(self, inquiry: Inquiry) -> None:
        self._inquiry = inquiry
        self.tally = Tally()
        self.judgments: list[Judgment | None] = [None] * len(inquiry.requests)
        self._first = self._errands()
        self._repairs: list[Errand] = []
        self._by_key: dict[bytes, Errand] = {}
        self._chains: dict[int, list[Entry]] = {}

    def next(self) -> Errand | None:
        """The next errand, repairs before others; None if there is none now."""
        return self._repairs.pop() if self._repairs else next(self._first, None)

    def request_of(self, errand: Errand) -> Request:
        """A request that the answer of ``errand`` is for."""
        return self._inquiry.requests[errand.numbers[0]]

    def answered(self, errand: Errand, entry: Entry) -> None:
        """Take in the answer of ``errand``, which is in the ledger."""
        self._by_key.pop(entry.key, None)
        self.tally.paid(entry)
        for number in errand.numbers:
            repair = self._next_step(number, [*self._chains.get(number, []), entry])
            if repair is not None:
                self._by_key[repair.call.key] = repair
                self._repairs.append(repair)

    def given_up(self, errand: Errand, reason: str) -> None:
        """There will be no answer to ``errand``."""
        self._by_key.pop(errand.call.key, None)
        for number in errand.numbers:
            opinions = (Unparsed(reason),) * len(self._inquiry.requests[number].criteria)
            self._settle(number, Judgment(opinions, (errand.call.key,) * len(opinions)))

    def _errands(self) -> Iterator[Errand]:
        """What has to be asked, in the order of the requests; what the ledger knows is judged on the way."""
        requests, keys, ledger, is_open = (
            self._inquiry.requests,
            self._inquiry.keys,
            self._inquiry.ledger,
            self._inquiry.is_open,
        )
        for numbers in batches(range(len(requests)), LOOK_AHEAD):
            wanted = {number: keys.key(requests[number]) for number in numbers if is_open(number)}
            self.tally.not_asked += len(numbers) - len(wanted)
            known = ledger.find(list(wanted.values()))
            for number, key in wanted.items():
                if key in known:
                    self.tally.from_ledger += 1
                    step = self._next_step(number, [known[key]])
                elif key in self._by_key:
                    self._by_key[key].numbers.append(number)
                    continue
                elif added := ledger.just_added(key):  # since this batch was looked up
                    step = self._next_step(number, [added])
                else:
                    step = self._errand(number, key, [])
                if step is None:
                    continue
                if is_open(number):
                    self._by_key[step.call.key] = step
                    yield step
                else:
                    self.tally.not_asked += 1

    def _errand(self, number: int, key: bytes, chain: list[Entry]) -> Errand:
        request = self._inquiry.requests[number]
        messages = messages_after(first_messages(self._inquiry.keys.prompt(request)), chain)
        return Errand(Call(number, key, messages, answer_schema(request)), [number])

    def _next_step(self, number: int, chain: list[Entry]) -> Errand | None:
        """The repair that ``chain`` asks for, or None once its judgment is made."""
        while len(chain) <= self._inquiry.settings.repair_rounds and (problem := problem_of(chain[-1])):
            key = self._inquiry.keys.repair_key(chain[-1].key, chain[-1].answer or "", problem)
            if found := self._inquiry.ledger.find([key]):
                chain.append(found[key])
                continue
            self._chains[number] = chain
            self.tally.repairs += 1
            return self._errand(number, key, chain)
        self._settle(number, judgment_of(chain))
        return None

    def _settle(self, number: int, judgment: Judgment) -> None:
        self._chains.pop(number, None)
        self.judgments[number] = judgment
        self.tally.count(judgment)
        self._inquiry.on_judgment(number, judgment)
