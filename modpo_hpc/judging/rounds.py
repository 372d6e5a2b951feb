"""Judging in rounds of batches: all first answers, then the repairs that they need, then those of the repairs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from modpo_hpc.judging.batch import BatchClient, run_batches
from modpo_hpc.judging.chat.budget import SpendingLimit
from modpo_hpc.judging.chat.conversation import messages_after, problem_of
from modpo_hpc.judging.chat.wire import Answered, Call, Outcome, Refused, cost, first_messages
from modpo_hpc.judging.inquiry import Inquiry
from modpo_hpc.judging.ledger import Entry, entries
from modpo_hpc.judging.opinions import Judgment, Tally, form_of, judgment_of
from modpo_hpc.judging.tasks import Request, Unparsed, answer_schema
from modpo_hpc.shards import Journal

POLL_SECONDS = 30.0
MOST_ROUNDS_WITHOUT_ANSWER = 3
CHARACTERS_PER_TOKEN = 3.5


class Rounds:
    """The judgments that ``inquiry`` asks for, through the Batch API. ``journal`` has the batches under way."""

    def __init__(
        self, inquiry: Inquiry, client: BatchClient, journal: Journal, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._requests, self._settings = inquiry.requests, inquiry.settings
        self._keys, self._ledger = inquiry.keys, inquiry.ledger
        self._inquiry, self._client, self._journal, self._poll_seconds = inquiry, client, journal, poll_seconds
        self.tally = Tally()
        self.judgments: list[Judgment | None] = [None] * len(self._requests)
        self._requests_of: dict[bytes, Request] = {}

    def run(self) -> list[Judgment | None]:
        """All judgments, in the order of the requests.

        Raises:
            Interrupted: ``check`` asked to stop; batches under way are taken up by the next attempt.
            SpendingLimit: what would be sent may cost more than the limit leaves.
            InputError: the endpoint refuses the key, the file or the model.
        """
        is_open = self._inquiry.is_open
        chains: dict[int, list[Entry]] = {number: [] for number in range(len(self._requests)) if is_open(number)}
        numbers = list(chains)
        idle = 0
        first = True
        while numbers:
            wanted = {number: self._next_key(number, chains[number]) for number in numbers}
            known = self._ledger.find(list(wanted.values()))
            if first:
                self.tally.from_ledger = len([number for number in wanted if wanted[number] in known])
            missing = {wanted[number]: number for number in numbers if wanted[number] not in known}
            before = len(missing)
            if missing:
                calls = [self._call(number, key, chains[number]) for key, number in missing.items()]
                self._refuse_to_overspend(calls)
                left = self._send(calls)
                known = self._ledger.find(list(wanted.values()))
                idle = idle + 1 if len(left) == before else 0
            numbers = self._sort_out(numbers, wanted, known, chains, given_up=idle >= MOST_ROUNDS_WITHOUT_ANSWER)
            first = False
            self._inquiry.on_progress(self.tally)
        return self.judgments

    def _next_key(self, number: int, chain: Sequence[Entry]) -> bytes:
        if not chain:
            return self._keys.key(self._requests[number])
        return self._keys.repair_key(chain[-1].key, chain[-1].answer or "", problem_of(chain[-1]) or "")

    def _call(self, number: int, key: bytes, chain: Sequence[Entry]) -> Call:
        request = self._requests[number]
        self._requests_of[key] = request
        if chain:
            self.tally.repairs += 1
        messages = messages_after(first_messages(self._keys.prompt(request)), chain)
        return Call(number, key, messages, answer_schema(request))

    def _send(self, calls: Sequence[Call]) -> set[bytes]:
        def wait() -> None:
            self._inquiry.on_progress(self.tally)
            until = time.monotonic() + self._poll_seconds
            while time.monotonic() < until:
                self._inquiry.check()
                time.sleep(min(1.0, self._poll_seconds))

        return run_batches(calls, self._settings.model, self._settings, self._journal, self._keep, wait, self._client)

    def _keep(self, outcomes: Sequence[tuple[bytes, Outcome]]) -> None:
        kept = []
        present = self._ledger.find([key for key, _ in outcomes])
        for key, outcome in outcomes:
            if key not in self._requests_of or key in present or not isinstance(outcome, (Answered, Refused)):
                continue
            request, answered = self._requests_of[key], outcome if isinstance(outcome, Answered) else None
            kept.append(
                Entry(
                    key=key,
                    answer=answered.text if answered else None,
                    task=request.task,
                    criteria=form_of(request),
                    shown=len(request.shown),
                    judge=(answered.model if answered else "") or self._settings.model,
                    refusal=outcome.reason if isinstance(outcome, Refused) else None,
                    finish=answered.finish if answered else None,
                    usage=outcome.usage,
                    at=round(time.time(), 1),
                )
            )
        self._ledger.append(kept)
        for entry in kept:
            self.tally.paid(entry)

    def _sort_out(
        self,
        numbers: Sequence[int],
        wanted: dict[int, bytes],
        known: dict[bytes, Entry],
        chains: dict[int, list[Entry]],
        given_up: bool,
    ) -> list[int]:
        """Judge what is complete; the numbers that need another round."""
        again = []
        for number in numbers:
            entry = known.get(wanted[number])
            if entry is None and not given_up:
                again.append(number)
                continue
            chain = chains[number]
            if entry is not None:
                chain.append(entry)
                if len(chain) <= self._settings.repair_rounds and problem_of(entry):
                    again.append(number)
                    continue
            if chain:
                judgment = judgment_of(chain)
            else:
                opinions = (Unparsed("no answer in several batches"),) * len(self._requests[number].criteria)
                judgment = Judgment(opinions, (wanted[number],) * len(opinions))
            self.judgments[number] = judgment
            self.tally.count(judgment)
            self._inquiry.on_judgment(number, judgment)
        return again

    def _refuse_to_overspend(self, calls: Sequence[Call]) -> None:
        if self._settings.max_usd is None:
            return
        spent = sum(entry.usage.usd for entry in entries(self._ledger.folder)) if self._ledger.folder.is_dir() else 0.0
        tokens = self._settings.max_tokens
        most = sum(cost(self._settings.price, int(one.characters / CHARACTERS_PER_TOKEN), tokens) for one in calls)
        if spent + most > self._settings.max_usd:
            raise SpendingLimit(
                f"{len(calls)} calls may cost ${most:.2f}, ${spent:.2f} are spent, and the limit is "
                f"${self._settings.max_usd:.2f}: nothing is sent. Raise it with MODPO_JUDGE_MAX_USD, or lower "
                "judge.max_tokens."
            )
