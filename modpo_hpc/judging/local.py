"""Asking a judge that runs in this process."""

from __future__ import annotations

from modpo_hpc.judging.inquiry import Inquiry
from modpo_hpc.judging.ledger import Entry
from modpo_hpc.judging.opinions import Judgment, Tally, batches, form_of, judgment_of
from modpo_hpc.judging.protocol import LocalJudge

BATCH = 8192


def ask_local(inquiry: Inquiry, judge: LocalJudge, name: str) -> tuple[list[Judgment | None], Tally]:
    """The judgments that ``inquiry`` asks for, in order, by ``judge``, which the ledger calls ``name``."""
    requests, ledger = inquiry.requests, inquiry.ledger
    judgments: list[Judgment | None] = [None] * len(requests)
    tally = Tally()
    for numbers in batches(range(len(requests)), BATCH):
        wanted = {number: inquiry.keys.key(requests[number]) for number in numbers if inquiry.is_open(number)}
        tally.not_asked += len(numbers) - len(wanted)
        known = ledger.find(list(wanted.values()))
        tally.from_ledger += sum(key in known for key in wanted.values())
        missing = {key: requests[number] for number, key in wanted.items() if key not in known}
        answers = judge.answer(list(missing.values()))
        new = [
            Entry(key, answer, request.task, form_of(request), len(request.shown), name)
            for (key, request), answer in zip(missing.items(), answers, strict=True)
        ]
        ledger.append(new)
        known.update((entry.key, entry) for entry in new)
        for number, key in wanted.items():
            judgment = judgment_of((known[key],))
            judgments[number] = judgment
            tally.count(judgment)
            inquiry.on_judgment(number, judgment)
        inquiry.on_progress(tally)
        inquiry.check()
    return judgments, tally
