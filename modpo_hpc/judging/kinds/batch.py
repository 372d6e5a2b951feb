"""The judge ``batch``: the calls of ``openai`` through the Batch API, at half the price, within a day."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.kinds.chat import ChatJudge
from modpo_hpc.judging.kinds.kind import Judgments, asking_name
from modpo_hpc.judging.opinions import Tally
from modpo_hpc.llm.claims import Claims

if TYPE_CHECKING:
    from modpo_hpc.run import Run, Shard

LASTS_SECONDS = 26 * 3600.0
"""A batch is over within a day, whoever waits for it."""


class BatchJudge(ChatJudge):
    """Its answers are those of ``openai``, so the ledger knows them by the same keys."""

    name = "batch"

    def claims(self, folder: Path, name: str) -> Claims:
        return Claims(folder, lasting=name, until=time.time() + LASTS_SECONDS)

    def ask(self, job: JudgingJob, run: Run, shard: Shard) -> tuple[Judgments, Tally]:
        from modpo_hpc.judging.batch import BatchClient, open_journal
        from modpo_hpc.judging.rounds import Rounds
        from modpo_hpc.llm.budget import Budget, limits_of
        from modpo_hpc.llm.endpoints import check_connection

        settings, folder = job.settings, job.store.ledger.folder
        check_connection(settings.base_url)
        name, limits = asking_name(run, shard, settings), limits_of(settings, settings.model)
        with (
            closing(BatchClient(settings)) as client,
            open_journal(folder, name) as journal,
            closing(Budget(folder, limits)) as budget,
        ):
            rounds = Rounds(job, client, journal, budget)
            return rounds.run(), rounds.tally
