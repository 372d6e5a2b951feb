"""Judging in rounds of batches: all first answers, then the repairs that they need, then those of the repairs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from modpo_hpc.core.journal import Journal
from modpo_hpc.judging.batch import BatchClient, run_batches
from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.kinds.chat import chat_api
from modpo_hpc.judging.opinions import Judgment
from modpo_hpc.judging.queue import JudgingCall, JudgingQueue
from modpo_hpc.llm.budget import Budget
from modpo_hpc.llm.client import Finished

POLL_SECONDS = 30.0
MOST_ROUNDS_WITHOUT_ANSWER = 3


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
            found.append(one)
        return found

    def _send(self, calls: Sequence[JudgingCall]) -> list[JudgingCall]:
        """Send ``calls``; those that got no answer come back."""
        by_key = {one.call.key: one for one in calls}

        def keep(finished: Sequence[Finished]) -> None:
            self._queue.finished(finished)
            for one, _ in finished:
                by_key.pop(one.call.key, None)

        run_batches(
            calls,
            self._api,
            self._job.settings,
            self._journal,
            self._budget,
            keep,
            self._wait,
            self._client,
            self._note,
        )
        return list(by_key.values())

    def _note(self, under_way: int) -> None:
        """While a batch is under way its keys stay claimed, even if this process dies."""
        self._job.store.keep_claims = under_way > 0

    def _wait(self) -> None:
        self._job.on_progress(self.tally)
        until = time.monotonic() + self._poll_seconds
        while time.monotonic() < until:
            self._job.check()
            time.sleep(min(1.0, self._poll_seconds))
