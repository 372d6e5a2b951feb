"""The judge of a study, and the one way in which recipes ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modpo_hpc.judging import settings as judge_settings
from modpo_hpc.judging.early_stop import EarlyStop, needed
from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.ledger import Ledger
from modpo_hpc.judging.opinions import Judgment, Tally, ask_local
from modpo_hpc.judging.rules import RuleJudge
from modpo_hpc.judging.tables import VerdictPlace
from modpo_hpc.judging.tasks import Request
from modpo_hpc.run import Run, Shard
from modpo_hpc.study.judging import Judge

if TYPE_CHECKING:
    from modpo_hpc.judging.chat.pool import Pool


def ledger_folder(run: Run) -> Path:
    """Where the raw answers of ``run`` are kept: the ledger that the study shares, or one inside the run."""
    return run.study.judge.ledger or run.root / "ledger"


def identity_of(settings: Judge) -> Mapping[str, Any]:
    """All of ``settings`` that can change an answer: it goes into every key of the ledger.

    A served model is known by its name whatever its address; an endpoint elsewhere by its address, too.
    """
    from modpo_hpc.judging.chat.wire import sampling

    if settings.kind == "rules":
        return RuleJudge.identity
    place = {} if settings.kind == "server" else {"endpoint": settings.base_url}
    return {"model": settings.model, **place, "structured": settings.structured, **sampling(settings)}


def ask_judge(run: Run, shard: Shard, requests: Sequence[Request]) -> list[Judgment]:
    """The judgments on ``requests``, in order. What was answered before is not asked again.

    Raises: see ``ask_while_open``.
    """
    judgments = ask_while_open(run, shard, requests, lambda _: True, lambda _, __: None)
    return [judgment for judgment in judgments if judgment is not None]


def ask_until_decided(
    run: Run, shard: Shard, places: Sequence[VerdictPlace], requests: Sequence[Request]
) -> list[Judgment | None]:
    """The judgments on comparisons, None for those that could not change a winner any more.

    Raises: see ``ask_while_open``.
    """
    criteria = len(requests[0].criteria) if requests else 0
    stop = EarlyStop(places, criteria)
    judgments = needed(places, ask_while_open(run, shard, requests, stop.is_open, stop.hear), criteria)
    shard.metrics["not_asked"] = sum(judgment is None for judgment in judgments)
    return judgments


def ask_while_open(
    run: Run,
    shard: Shard,
    requests: Sequence[Request],
    is_open: Callable[[int], bool],
    on_judgment: Callable[[int, Judgment], None],
) -> list[Judgment | None]:
    """The judgments on ``requests``, in order.

    Args:
        is_open: whether the request of this number still has to be asked; if not, its judgment may be None.
        on_judgment: hears of each judgment, by number, as it is made.

    Raises:
        Interrupted: this attempt was asked to stop; all answers so far are in the ledger.
        InputError: no key, wrong key, unknown model, a parameter that the model does not take.
        SpendingLimit, JudgeFailed: see ``modpo_hpc.judging.chat``.
    """
    settings = judge_settings.in_force(run.study.judge)

    def show(tally: Tally) -> None:
        numbers = tally.metrics()
        if tally.usd and tally.judged > tally.from_ledger:
            open_requests = len(requests) - tally.judged - tally.not_asked
            numbers["usd_projected"] = tally.usd * (1 + open_requests / (tally.judged - tally.from_ledger))
        shard.progress(int(numbers.pop("judged")), len(requests), "judgments", **numbers)

    with Ledger(ledger_folder(run)) as ledger:
        keys = Keys(identity_of(settings), settings.prompt_order, settings.scene)
        if settings.kind == "rules":
            judgments, tally = ask_local(requests, RuleJudge(), keys, ledger, show, shard.check, is_open, on_judgment)
        elif settings.kind == "batch":
            judgments, tally = _ask_batch(shard, requests, settings, keys, ledger, show, is_open, on_judgment)
        else:
            judgments, tally = _ask_chat(run, shard, requests, settings, keys, ledger, show, is_open, on_judgment)
    shard.metrics.update(tally.metrics())
    return judgments


def _ask_chat(
    run: Run,
    shard: Shard,
    requests: Sequence[Request],
    settings: Judge,
    keys: Keys,
    ledger: Ledger,
    show: Callable[[Tally], None],
    is_open: Callable[[int], bool],
    on_judgment: Callable[[int, Judgment], None],
) -> tuple[list[Judgment | None], Tally]:
    from modpo_hpc.judging.chat.budget import Budget, Limits
    from modpo_hpc.judging.chat.flow import Flow

    judge_settings.check_key(settings)
    limits = Limits(settings.requests_per_minute, settings.tokens_per_minute, settings.max_usd)
    budget = Budget(ledger.folder, limits)
    try:
        with _pool(run, shard, settings) as pool:
            flow = Flow(
                requests,
                settings.model,
                settings,
                keys,
                ledger,
                pool,
                budget,
                is_open,
                on_judgment,
                show,
                shard.check,
            )
            return flow.run(), flow.tally
    finally:
        budget.close()


def _ask_batch(
    shard: Shard,
    requests: Sequence[Request],
    settings: Judge,
    keys: Keys,
    ledger: Ledger,
    show: Callable[[Tally], None],
    is_open: Callable[[int], bool],
    on_judgment: Callable[[int, Judgment], None],
) -> tuple[list[Judgment | None], Tally]:
    from modpo_hpc.judging.batch import BatchClient, open_journal
    from modpo_hpc.judging.chat.rounds import Rounds

    judge_settings.check_key(settings)
    client = BatchClient(settings)
    try:
        with open_journal(
            ledger.folder, f"{shard.run.provenance.get('id', 'run')}.{shard.stage.name}.{shard.id}"
        ) as journal:
            rounds = Rounds(requests, settings, keys, ledger, client, journal, is_open, on_judgment, show, shard.check)
            return rounds.run(), rounds.tally
    finally:
        client.close()


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

        gpus = settings.server.gpus if served and _has_gpus() else 0
        pool = RayPool(address, name, settings, settings.actors, {"num_gpus": gpus} if gpus else {})
    else:
        pool = ThreadPool(address(), name, settings)
    try:
        yield pool
    finally:
        pool.close()


def _has_gpus() -> bool:
    import ray

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    return bool(ray.cluster_resources().get("GPU"))
