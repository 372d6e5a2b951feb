"""The judges of a study, and the one way in which recipes ask them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modpo_hpc.judging import settings as judge_settings
from modpo_hpc.judging.early_stop import EarlyStop, needed
from modpo_hpc.judging.inquiry import Inquiry
from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.ledger import Ledger
from modpo_hpc.judging.local import ask_local
from modpo_hpc.judging.opinions import Judgment, Tally
from modpo_hpc.judging.rules import RuleJudge
from modpo_hpc.judging.tables import VerdictPlace
from modpo_hpc.judging.tasks import Request
from modpo_hpc.run import Run, Shard
from modpo_hpc.study.judging import Judge

if TYPE_CHECKING:
    from modpo_hpc.judging.chat.pool import Pool

FIRST_TO_SEE = ("usd", "usd_projected", "failed_rate", "failed_server", "failed_connection", "unparsed")
"""Numbers that a narrow terminal must not cut off."""

Judgments = list[Judgment | None]
Heard = tuple[Judgments, Tally]


def ledger_folder(run: Run, judge: Judge | None = None) -> Path:
    """Where the raw answers of ``judge`` (the first one) are kept: its ledger, or the one inside the run."""
    return (judge or run.study.judges[0]).ledger or run.root / "ledger"


def identity_of(settings: Judge) -> Mapping[str, Any]:
    """All of ``settings`` that can change an answer: it goes into every key of the ledger.

    A served model is known by its name whatever its address; an endpoint elsewhere by its address, too.
    """
    from modpo_hpc.judging.chat.wire import sampling

    if settings.kind == "rules":
        return RuleJudge.identity
    place = {} if settings.kind == "server" else {"endpoint": settings.base_url}
    return {"model": settings.model, **place, "structured": settings.structured, **sampling(settings)}


def ask_judges(run: Run, shard: Shard, requests: Sequence[Request]) -> list[list[Judgment]]:
    """The judgments on ``requests``, in order, of each judge of the study. What was answered before is not asked again.

    Raises: see ``_ask_all``.
    """
    every = _ask_all(run, shard, requests, lambda _: True, lambda _, __: None)
    return [[judgment for judgment in judgments if judgment is not None] for judgments in every]


def ask_judges_until_decided(
    run: Run, shard: Shard, places: Sequence[VerdictPlace], requests: Sequence[Request]
) -> list[Judgments]:
    """The judgments of each judge on comparisons, None for those that could not change a winner any more.

    The votes of all judges count alike, and they are heard one judge after the other.

    Raises: see ``_ask_all``.
    """
    criteria = len(requests[0].criteria) if requests else 0
    all_places = [*places] * len(run.study.judges)
    stop = EarlyStop(all_places, criteria)
    every = _ask_all(run, shard, requests, stop.is_open, stop.hear)
    kept = needed(all_places, [judgment for judgments in every for judgment in judgments], criteria)
    shard.metrics["not_asked"] = sum(judgment is None for judgment in kept)
    return [kept[start : start + len(places)] for start in range(0, len(kept), max(1, len(places)))]


def _ask_all(
    run: Run,
    shard: Shard,
    requests: Sequence[Request],
    is_open: Callable[[int], bool],
    on_judgment: Callable[[int, Judgment], None],
) -> list[Judgments]:
    """The judgments on ``requests`` of one judge after the other.

    ``is_open`` and ``on_judgment`` number the requests of all judges on end.

    Raises:
        Interrupted: this attempt was asked to stop; all answers so far are in the ledger.
        InputError: no key, wrong key, unknown model, a parameter that the model does not take.
        SpendingLimit, JudgeFailed: see ``modpo_hpc.judging.chat``.
    """
    in_force = judge_settings.all_in_force(run.study.judges)
    for settings in in_force:
        judge_settings.check_key(settings)
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

        with Ledger(ledger_folder(run, settings)) as ledger:
            inquiry = Inquiry(
                requests,
                settings,
                Keys(identity_of(settings), settings.prompt_order, settings.scene),
                ledger,
                lambda number: is_open(offset + number),
                lambda number, judgment: on_judgment(offset + number, judgment),
                show,
                shard.check,
            )
            judgments, tally = _ASK[settings.kind](run, shard, inquiry)
        before.update(tally.metrics())
        return judgments

    every = [ask_one(place, settings) for place, settings in enumerate(in_force)]
    shard.metrics.update(before)
    return every


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**other, **one}}


def _ask_rules(run: Run, shard: Shard, inquiry: Inquiry) -> Heard:
    return ask_local(inquiry, RuleJudge(), "rules")


def _ask_chat(run: Run, shard: Shard, inquiry: Inquiry) -> Heard:
    from modpo_hpc.judging.chat.budget import Budget, limits_of
    from modpo_hpc.judging.chat.flow import Flow

    limits = limits_of(inquiry.settings)
    with closing(Budget(inquiry.ledger.folder, limits)) as budget, _pool(run, shard, inquiry.settings) as pool:
        flow = Flow(inquiry, pool, budget)
        return flow.run(), flow.tally


def _ask_batch(run: Run, shard: Shard, inquiry: Inquiry) -> Heard:
    from modpo_hpc.judging.batch import BatchClient, open_journal
    from modpo_hpc.judging.chat.rounds import Rounds

    settings = inquiry.settings
    whose = "." + settings.name.replace("/", "-") if len(run.study.judges) > 1 else ""
    name = f"{run.provenance.get('id', 'run')}.{shard.stage.name}.{shard.id}{whose}"
    with closing(BatchClient(settings)) as client, open_journal(inquiry.ledger.folder, name) as journal:
        rounds = Rounds(inquiry, client, journal)
        return rounds.run(), rounds.tally


_ASK = {"rules": _ask_rules, "openai": _ask_chat, "server": _ask_chat, "batch": _ask_batch}


@contextmanager
def _pool(run: Run, shard: Shard, settings: Judge) -> Iterator[Pool]:
    """Senders for this shard: in this process, or in Ray actors; with servers of their own for the judge ``server``."""
    from modpo_hpc.judging.chat.address import Address, FixedAddress, ServersAddress
    from modpo_hpc.judging.chat.pool import ThreadPool

    served = settings.kind == "server"
    name = settings.server.name if served else settings.model
    logs = run.logs / shard.stage.name / shard.id

    address: Callable[[], Address] = (
        partial(ServersAddress, settings.server, settings.model, run.study.models.dtype, logs)
        if served
        else partial(FixedAddress, settings.base_url)
    )
    pool: Pool
    if settings.executor == "ray":
        from modpo_hpc.judging.chat.raypool import RayPool

        pool = RayPool(address, name, settings, settings.actors, settings.server.gpus if served else 0)
    else:
        pool = ThreadPool(address(), name, settings)
    try:
        yield pool
    finally:
        pool.close()
