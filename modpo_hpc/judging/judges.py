"""The judges of a study, and the one way in which recipes ask them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from modpo_hpc.judging import settings as judge_settings
from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.kinds import judge_kind
from modpo_hpc.judging.kinds.kind import Judgments, asking_name
from modpo_hpc.judging.opinions import Judgment, Tally
from modpo_hpc.judging.stop import Stop
from modpo_hpc.judging.tasks import JudgeRequest
from modpo_hpc.llm.ledger import Ledger
from modpo_hpc.llm.store import Store, ledger_folder
from modpo_hpc.run import Run, Shard
from modpo_hpc.study.judging import Judge

FIRST_TO_SEE = ("usd", "usd_projected", "failed_rate", "failed_server", "failed_connection", "unparsed")
"""Numbers that a narrow terminal must not cut off."""


def keys_of(settings: Judge) -> Keys:
    """The keys of the answers of the judge with these settings."""
    kind = judge_kind(settings.kind)
    return Keys(kind.identity(settings), settings.prompt_order, settings.scene, kind.control_strings(settings))


def ask_judges(run: Run, shard: Shard, requests: Sequence[JudgeRequest]) -> list[list[Judgment]]:
    """The judgments on ``requests``, in order, of each judge of the study. What was answered before is not asked again.

    Raises: see ``_ask_all``.
    """
    every = _ask_all(run, shard, requests, lambda _: True, lambda _, __: None)
    return [[judgment for judgment in judgments if judgment is not None] for judgments in every]


def ask_judges_until_decided(
    run: Run, shard: Shard, requests: Sequence[JudgeRequest], stop: Stop, rounds: Sequence[int] = ()
) -> list[Judgments]:
    """The judgments of each judge on comparisons, None for those that ``stop`` does not need.

    The votes of all judges count alike, and they are heard one judge after the other.

    Args:
        stop: numbers the requests of all judges on end.
        rounds: number of requests of each round, of which one waits for the one before it.

    Raises: see ``_ask_all``.
    """
    every = _ask_all(run, shard, requests, stop.is_open, stop.hear, rounds)
    kept = stop.needed([judgment for judgments in every for judgment in judgments])
    shard.metrics["not_asked"] = sum(judgment is None for judgment in kept)
    return [kept[start : start + len(requests)] for start in range(0, len(kept), max(1, len(requests)))]


def _ask_all(
    run: Run,
    shard: Shard,
    requests: Sequence[JudgeRequest],
    is_open: Callable[[int], bool],
    on_judgment: Callable[[int, Judgment], None],
    rounds: Sequence[int] = (),
) -> list[Judgments]:
    """The judgments on ``requests`` of one judge after the other.

    ``is_open`` and ``on_judgment`` number the requests of all judges on end.

    Raises:
        Interrupted: this attempt was asked to stop; all answers so far are in the ledger.
        InputError: no key, wrong key, unknown model, a parameter that the model does not take.
        SpendingLimit, EndpointFailed: see ``modpo_hpc.llm.client``.
    """
    in_force = judge_settings.all_in_force(run.study.judges)
    for settings in in_force:
        judge_kind(settings.kind).check(settings, os.environ)
    before: Counter[str] = Counter()
    started = time.monotonic()
    criteria = len(requests[0].criteria) if requests else 0

    def ask_one(place: int, settings: Judge) -> Judgments:
        offset = place * len(requests)

        def show(tally: Tally) -> None:
            numbers = _sum(before, tally.metrics())
            if tally.usd and tally.judged > tally.from_ledger:
                left = len(requests) - tally.judged - tally.not_asked
                numbers["usd_projected"] = numbers["usd"] + tally.usd * left / (tally.judged - tally.from_ledger)
            done, total = int(numbers.pop("judged") + numbers.get("not_asked", 0)), len(requests) * len(in_force)
            made = (done - numbers.get("from_ledger", 0)) / (time.monotonic() - started)
            pace = {"verdicts_per_second": made * criteria, "seconds_left": (total - done) / made} if made > 0 else {}
            first = {name: numbers.pop(name) for name in FIRST_TO_SEE if name in numbers}
            shard.progress(done, total, "judgments", **pace, **first, **numbers)

        folder = ledger_folder(run, settings)
        kind = judge_kind(settings.kind)
        with Store(Ledger(folder), kind.claims(folder, asking_name(run, shard, settings))) as store:
            job = JudgingJob(
                requests,
                settings,
                keys_of(settings),
                store,
                rounds,
                lambda number: is_open(offset + number),
                lambda number, judgment: on_judgment(offset + number, judgment),
                show,
                shard.check,
            )
            judgments, tally = kind.ask(job, run, shard)
        before.update(tally.metrics())
        if tally.snapshots:
            shard.snapshots[settings.name or settings.model] = dict(sorted(tally.snapshots.items()))
        return judgments

    every = [ask_one(place, settings) for place, settings in enumerate(in_force)]
    shard.metrics.update(before)
    return every


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**other, **one}}
