"""Judgments: what the answers to a request say, and the count of what it took to get them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from modpo_hpc.judging.tasks import JudgeRequest, Opinion, Task, Unparsed, parse_answer
from modpo_hpc.llm.ledger import Entry


@dataclass(frozen=True, slots=True)
class Judgment:
    """The opinions on one request, one a criterion, and for each the ledger key of the answer that states it."""

    opinions: tuple[Opinion, ...]
    keys: tuple[bytes, ...]


@dataclass
class Tally:
    """What a shard's judging has come to so far; shown while it runs, kept in the shard's marker."""

    judged: int = 0
    from_ledger: int = 0
    not_asked: int = 0
    calls: int = 0
    repairs: int = 0
    read: int = 0
    written: int = 0
    cached: int = 0
    usd: float = 0.0
    unparsed: Counter[str] = field(default_factory=Counter)
    estimated: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    snapshots: Counter[str] = field(default_factory=Counter)
    """Judgments by the name by which the model called itself in the answer that they rest on."""

    def count(self, judgment: Judgment) -> None:
        self.judged += 1
        for opinion in judgment.opinions:
            if isinstance(opinion, Unparsed):
                self.unparsed[opinion.reason] += 1

    def paid(self, entry: Entry) -> None:
        self.calls += entry.tries
        self.read += entry.usage.read
        self.written += entry.usage.written
        self.cached += entry.usage.cached
        self.usd += entry.usage.usd
        self.estimated += entry.usage.estimated

    def metrics(self) -> dict[str, float]:
        """The numbers that are shown and kept. Zeroes are left out, ``judged`` and ``unparsed`` aside."""
        numbers = {
            "from_ledger": self.from_ledger,
            "not_asked": self.not_asked,
            "calls": self.calls,
            "repairs": self.repairs,
            "tokens_read": self.read,
            "tokens_cached": self.cached,
            "tokens_written": self.written,
            "usd": round(self.usd, 6),
            "usage_estimated": self.estimated,
            **{f"failed_{kind}": count for kind, count in sorted(self.failures.items())},
        }
        kept = {name: float(number) for name, number in numbers.items() if number}
        return {"judged": self.judged, "unparsed": sum(self.unparsed.values()), **kept}


def judgment_of(answers: Sequence[Entry]) -> Judgment:
    """What the ``answers`` to one request say, the first one and those of the repair rounds.

    Each criterion has its opinion from the first answer that states one; if none does, the last one's reason.
    """
    read = [opinions_of(entry) for entry in answers]
    if len(answers) == 1:
        return Judgment(read[0], (answers[0].key,) * len(read[0]))
    chosen = []
    for number in range(len(read[0])):
        stated = (place for place, opinions in enumerate(read) if not isinstance(opinions[number], Unparsed))
        place = next(stated, len(read) - 1)
        chosen.append((read[place][number], answers[place].key))
    return Judgment(tuple(opinion for opinion, _ in chosen), tuple(key for _, key in chosen))


def opinions_of(entry: Entry) -> tuple[Opinion, ...]:
    """What one answer says about each criterion; of a refusal, its reason."""
    if entry.answer is None:
        return (Unparsed(f"refused: {entry.refusal}"),) * len(entry.criteria)
    return parse_answer(entry.answer, cast(Task, entry.task), entry.criteria, entry.shown, entry.finish)


def form_of(request: JudgeRequest) -> tuple[str, ...]:
    """Names of the criteria of ``request``."""
    return tuple(criterion.name for criterion in request.criteria)
