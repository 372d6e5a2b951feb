"""The judge of a study, and the one way in which recipes ask it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.ledger import Ledger
from modpo_hpc.judging.opinions import Judgment, Tally, ask_local
from modpo_hpc.judging.rules import RuleJudge
from modpo_hpc.judging.tasks import Request
from modpo_hpc.run import Run, Shard


def ledger_folder(run: Run) -> Path:
    """Where the raw answers of ``run`` are kept: the ledger that the study shares, or one inside the run."""
    return run.study.judge.ledger or run.root / "ledger"


def ask_judge(run: Run, shard: Shard, requests: Sequence[Request]) -> list[Judgment]:
    """The judgments on ``requests``, in order. What was answered before is not asked again.

    Raises:
        Interrupted: this attempt was asked to stop; all answers so far are in the ledger.
    """
    settings = run.study.judge

    def after_batch(tally: Tally) -> None:
        shard.progress(tally.answered, len(requests), "judgments", unparsed=sum(tally.unparsed.values()))
        shard.check()

    with Ledger(ledger_folder(run)) as ledger:
        judge = RuleJudge()
        keys = Keys(judge.identity, settings.prompt_order)
        judgments, tally = ask_local(requests, judge, keys, ledger, after_batch)
    shard.metrics.update(tally.metrics())
    return judgments
