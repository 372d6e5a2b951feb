"""From requests to opinions: look each one up in the ledger, ask for what is missing, keep it, then parse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.ledger import Entry, Ledger
from modpo_hpc.judging.protocol import LocalJudge
from modpo_hpc.judging.tasks import Opinion, Request, Unparsed, parse_answer

BATCH = 8192
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judgment:
    """The opinions on one request, one a criterion, and for each the ledger key of the answer that states it."""

    opinions: tuple[Opinion, ...]
    keys: tuple[bytes, ...]


@dataclass
class Tally:
    """What a shard's judging has come to so far; shown while it runs, kept in the shard's marker."""

    answered: int = 0
    from_ledger: int = 0
    unparsed: Counter[str] = field(default_factory=Counter)

    def count(self, judgment: Judgment) -> None:
        self.answered += 1
        for opinion in judgment.opinions:
            if isinstance(opinion, Unparsed):
                self.unparsed[opinion.reason] += 1

    def metrics(self) -> dict[str, float]:
        """The numbers that a shard's marker keeps."""
        return {
            "answered": self.answered,
            "from_ledger": self.from_ledger,
            "unparsed": sum(self.unparsed.values()),
        }


def judgment_of(entry: Entry) -> Judgment:
    """What the ledger's ``entry`` says: its opinions, or the refusal as the reason of each."""
    if entry.answer is None:
        opinions: tuple[Opinion, ...] = (Unparsed(f"refused: {entry.refusal}"),) * len(entry.criteria)
    else:
        opinions = parse_answer(entry.answer, entry.task, entry.criteria, entry.shown)
    return Judgment(opinions, (entry.key,) * len(opinions))


def ask_local(
    requests: Iterable[Request],
    judge: LocalJudge,
    keys: Keys,
    ledger: Ledger,
    on_batch: Callable[[Tally], None] = lambda _: None,
) -> tuple[list[Judgment], Tally]:
    """The judgments on ``requests``, in order, by a judge that runs in this process.

    ``on_batch`` is called after each batch, when its answers are on disk.
    """
    judgments: list[Judgment] = []
    tally = Tally()
    for batch in batches(requests, BATCH):
        asked = [keys.key(request) for request in batch]
        known = ledger.find(asked)
        tally.from_ledger += len(known)
        missing = {key: request for key, request in zip(asked, batch, strict=True) if key not in known}
        answers = judge.answer(list(missing.values()))
        new = [
            Entry(key, answer, request.task, tuple(one.name for one in request.criteria), len(request.shown), "rules")
            for (key, request), answer in zip(missing.items(), answers, strict=True)
        ]
        ledger.append(new)
        known.update((entry.key, entry) for entry in new)
        for key in asked:
            judgment = judgment_of(known[key])
            tally.count(judgment)
            judgments.append(judgment)
        on_batch(tally)
    return judgments, tally


def batches(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """``items`` in lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
