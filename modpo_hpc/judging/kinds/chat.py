"""The judge ``openai``: any OpenAI-compatible chat endpoint elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from modpo_hpc.errors import InputError
from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.kinds.kind import JudgeKind, Judgments
from modpo_hpc.judging.opinions import Tally
from modpo_hpc.study.judging import Judge

if TYPE_CHECKING:
    from modpo_hpc.run import Run, Shard


class ChatJudge(JudgeKind):
    """Calls over HTTP, as many at once as the endpoint bears."""

    name = "openai"
    texts_leave = True
    paid = True

    def identity(self, settings: Judge) -> Mapping[str, Any]:
        return {"model": settings.model, "endpoint": settings.base_url, **model_identity(settings)}

    def check(self, settings: Judge, environment: Mapping[str, str]) -> None:
        if "api.openai.com" in settings.base_url and not environment.get(settings.api_key_env, "").strip():
            raise InputError(
                "there is no API key",
                file="environment",
                field=settings.api_key_env,
                remedy=f"Set it (export {settings.api_key_env}=...), name another variable in judge.api_key_env, or "
                "give another endpoint in judge.base_url. Keys are read from the environment only.",
            )

    def ask(self, job: JudgingJob, run: Run, shard: Shard) -> tuple[Judgments, Tally]:
        from modpo_hpc.llm.endpoints import FixedAddress, check_connection

        check_connection(job.settings.base_url)
        return ask_over_http(job, partial(FixedAddress, job.settings.base_url), job.settings.model)


def ask_over_http(
    job: JudgingJob, address: Callable[[], Any], model: str, gpus: int = 0, lost_after: float | None = None
) -> tuple[Judgments, Tally]:
    """The judgments of ``job`` by the chat model ``model`` behind ``address``."""
    from modpo_hpc.judging.queue import JudgingQueue
    from modpo_hpc.llm.budget import Budget, limits_of
    from modpo_hpc.llm.client import Client
    from modpo_hpc.llm.pool import Pool, ThreadPool

    settings, api = job.settings, chat_api(job.settings, model)
    queue = JudgingQueue(job, api.call)
    pool: Pool
    if settings.executor == "ray":
        from modpo_hpc.llm.raypool import RayPool

        pool = RayPool(address, settings.timeout_seconds, settings.actors, gpus)
    else:
        pool = ThreadPool(address(), settings.timeout_seconds)

    def on_progress() -> None:
        job.store.renew()
        job.on_progress(queue.tally)

    with closing(pool), closing(Budget(job.store.ledger.folder, limits_of(settings, settings.model))) as budget:
        client = Client(queue, api, settings, pool, budget, job.check, on_progress, lost_after)
        queue.tally.failures = client.failures
        client.run()
    return queue.judgments, queue.tally


def chat_api(settings: Judge, model: str) -> Any:
    """The form of requests to the judge's model, known as ``model`` at its endpoint."""
    from modpo_hpc.llm.chat import ChatApi, token_field

    sampling = {name: value for name, value in sampling_of(settings).items() if name != "max_tokens"}
    return ChatApi(
        model,
        settings.max_tokens,
        sampling,
        settings.structured,
        token_field(settings.base_url),
        settings.price,
        settings.api_key_env,
    )


def model_identity(settings: Judge) -> dict[str, Any]:
    """What can change an answer of any chat model, besides its name."""
    snapshot = {"snapshot": settings.snapshot} if settings.snapshot else {}
    return {"structured": settings.structured, **snapshot, **sampling_of(settings)}


def sampling_of(settings: Judge) -> dict[str, Any]:
    """The settings of sampling that are set, as they stand in a request and in the ledger's key."""
    chosen = {
        "temperature": settings.temperature,
        "seed": settings.sampling_seed,
        "reasoning_effort": settings.reasoning_effort,
        "max_tokens": settings.max_tokens,
    }
    return {**{name: value for name, value in chosen.items() if value is not None}, **settings.extra}
