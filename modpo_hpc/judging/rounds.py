"""Judging in rounds of batches: all first answers, then the repairs that they need, then those of the repairs.

What is about to be sent is in a file beside the ledger before it is sent, with a mark that the endpoint keeps with the
batch: a run that dies, or that loses the reply to its request, finds its batches again instead of paying for new ones.
What a batch may cost is held in the budget from before it is sent until it has ended. Calls of a batch that expired or
failed in part are sent again in the next one.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modpo_hpc.core.journal import Journal
from modpo_hpc.errors import InputError
from modpo_hpc.judging.batch import BatchClient, files_of
from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.kinds.chat import chat_api
from modpo_hpc.judging.opinions import Judgment
from modpo_hpc.judging.queue import JudgingCall, JudgingQueue
from modpo_hpc.llm.budget import Budget, SpendingLimit
from modpo_hpc.llm.client import Finished, PendingCall
from modpo_hpc.llm.ledger import Usage
from modpo_hpc.llm.outcomes import Answered, Hopeless, Outcome, Refused

log = logging.getLogger(__name__)

POLL_SECONDS = 30.0
MOST_ROUNDS_WITHOUT_ANSWER = 3
_ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True)
class Submitted:
    """A batch that the endpoint has taken: its id, the mark that we gave it, the keys of its calls."""

    batch: str
    mark: str
    keys: tuple[str, ...]


class Rounds:
    """The judgments that ``job`` asks for, through the Batch API. ``journal`` has the batches under way."""

    def __init__(
        self, job: JudgingJob, client: BatchClient, journal: Journal, budget: Budget, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._job, self._client, self._journal, self._budget = job, client, journal, budget
        self._poll_seconds = poll_seconds
        self._api = chat_api(job.settings, job.settings.model)
        self._queue = JudgingQueue(job, self._api.call)
        self.tally = self._queue.tally

    def run(self) -> list[Judgment | None]:
        """All judgments, in the order of the requests.

        Raises:
            Interrupted: ``check`` asked to stop; batches under way are taken up by the next attempt.
            SpendingLimit: what would be sent may cost more than the limit leaves.
            InputError: the endpoint refuses the key, the file or the model.
        """
        idle = 0
        while True:
            calls = self._calls()
            if calls:
                left = self._send(calls)
                idle = idle + 1 if len(left) == len(calls) else 0
                for call in left:
                    if idle >= MOST_ROUNDS_WITHOUT_ANSWER:
                        self._queue.given_up(call, "no answer in several batches")
                    else:
                        self._queue.put_back(call)
            elif self._queue.is_finished():
                self._job.on_progress(self.tally)
                return self._queue.judgments
            else:  # another process asks for the rest
                self._wait()
            self._job.on_progress(self.tally)

    def _calls(self) -> list[JudgingCall]:
        found = []
        while (one := self._queue.next()) is not None:
            one.usd = one.most_usd(self._api)
            found.append(one)
        return found

    def _send(self, calls: Sequence[JudgingCall]) -> list[JudgingCall]:
        """Send ``calls`` in batches and keep what becomes of each; those that got no answer come back.

        Batches that an earlier attempt left under way are taken up first.
        """
        wanted = {one.call.key.hex(): one for one in calls}
        under_way = [one for one in self._left_behind() if any(key in wanted for key in one.keys)]
        sent = {key for one in under_way for key in one.keys}
        new = [one for key, one in wanted.items() if key not in sent]
        parts = files_of(new, replace(self._api, token_field="max_completion_tokens"))
        part = None
        answered: set[str] = set()
        while True:
            # while a batch is under way its keys stay claimed, even if this process dies
            self._job.store.keep_claims = bool(under_way)
            part = part or next(parts, None)
            if part is None and not under_way:
                return [one for key, one in wanted.items() if key not in answered]
            if part is not None and (batch := self._submit(*part)) is not None:
                under_way.append(batch)
                part = None
                continue
            if part is not None and not under_way:
                raise self._spending_limit(part[0])
            for one in list(under_way):
                if (finished := self._take_home(one, wanted)) is not None:
                    under_way.remove(one)
                    answered.update(call.call.key.hex() for call, _ in finished)
            if under_way:
                self._wait()

    def _submit(self, part: Sequence[PendingCall], content: bytes) -> Submitted | None:
        """A new batch of the calls in ``part``; None if the limit leaves less than it may cost."""
        mark, keys = secrets.token_hex(12), tuple(one.call.key.hex() for one in part)
        if self._budget.hold(mark, sum(one.usd for one in part)) is None:
            return None
        try:
            file = self._client.upload(content)
            self._journal.append([{"mark": mark, "keys": keys}])
            batch = Submitted(self._client.create(file, mark), mark, keys)
        except InputError:
            self._budget.release(mark, 0.0)
            raise
        self._journal.append([{"mark": mark, "batch": batch.batch}])
        return batch

    def _take_home(self, one: Submitted, wanted: Mapping[str, JudgingCall]) -> list[Finished] | None:
        """Keep the answers of a batch that has ended; None if it has not."""
        status = self._client.status(one.batch)
        if status.get("status") not in _ENDED:
            return None
        outcomes = dict(self._outcomes(status, wanted))
        for outcome in outcomes.values():
            if isinstance(outcome, Hopeless):
                raise InputError(outcome.problem, field=outcome.field, remedy=outcome.remedy)
        if not outcomes and status["status"] == "failed":
            self._budget.release(one.mark, 0.0)
            raise InputError(
                f"the endpoint refused batch {one.batch}: {_errors(status)}",
                field="judge",
                remedy="Correct the setting it names; nothing of this batch was answered or charged.",
            )
        final: list[Finished] = [
            (wanted[key], wanted[key].with_usage(outcome))
            for key, outcome in outcomes.items()
            if isinstance(outcome, (Answered, Refused))
        ]
        self._queue.finished(final)
        self._budget.release(one.mark, sum((outcome.usage or Usage()).usd for _, outcome in final))
        self._journal.append([{"mark": one.mark, "ended": status["status"]}])
        if status["status"] != "completed" or len(final) < len(one.keys):
            log.warning("batch %s %s with %d of %d answers", one.batch, status["status"], len(final), len(one.keys))
        return final

    def _left_behind(self) -> Iterator[Submitted]:
        """The batches of the journal that were not taken home; one whose making was cut short is looked for."""
        ended = {row["mark"] for row in self._journal.rows if "ended" in row}
        known = {row["mark"]: row["batch"] for row in self._journal.rows if "batch" in row}
        for row in self._journal.rows:
            if "keys" not in row or row["mark"] in ended:
                continue
            if (batch := known.get(row["mark"]) or self._client.find(row["mark"])) is not None:
                yield Submitted(batch, row["mark"], tuple(row["keys"]))

    def _outcomes(self, status: Mapping[str, Any], wanted: Mapping[str, JudgingCall]) -> Iterator[tuple[str, Outcome]]:
        plain = replace(self._api, structured="none")
        for name in ("output_file_id", "error_file_id"):
            for line in self._client.download(str(status[name])) if status.get(name) else ():
                key = line.get("custom_id")
                if not isinstance(key, str) or key not in wanted:
                    continue
                response = line.get("response")
                response = response if isinstance(response, dict) else {}
                code = response.get("status_code")
                body = json.dumps(response.get("body") if response else line.get("error") or {}).encode()
                yield key, plain.outcome(wanted[key].call, code if isinstance(code, int) else 500, body, {})

    def _spending_limit(self, part: Sequence[PendingCall]) -> SpendingLimit:
        return SpendingLimit(
            f"{len(part)} calls may cost ${sum(one.usd for one in part):.2f}, ${self._budget.spent:.2f} are spent, and "
            f"the limit is ${self._job.settings.max_usd:.2f}: nothing is sent. Raise it with MODPO_JUDGE_MAX_USD, or "
            "lower judge.max_tokens."
        )

    def _wait(self) -> None:
        self._job.on_progress(self.tally)
        until = time.monotonic() + self._poll_seconds
        while time.monotonic() < until:
            self._job.check()
            time.sleep(min(1.0, self._poll_seconds))


def _errors(status: dict[str, Any]) -> str:
    errors = status.get("errors")
    found = (errors.get("data") if isinstance(errors, dict) else None) or []
    return "; ".join(str(one.get("message", one) if isinstance(one, dict) else one) for one in found[:3]) or (
        "no reason given"
    )
