"""The judge ``server``: a model that the job serves on its own GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from modpo_hpc.control_strings import control_strings_of
from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.kinds.chat import ask_over_http, model_identity
from modpo_hpc.judging.kinds.kind import JudgeKind, Judgments
from modpo_hpc.judging.opinions import Tally
from modpo_hpc.study.judging import Judge

if TYPE_CHECKING:
    from modpo_hpc.run import Run, Shard


class ServedJudge(JudgeKind):
    """``judge.server.command`` runs on each GPU for as long as a shard does; its model is known by its name alone."""

    name = "server"
    texts_leave = False
    paid = False
    serves = True

    def identity(self, settings: Judge) -> Mapping[str, Any]:
        return {"model": settings.model, **model_identity(settings)}

    def control_strings(self, settings: Judge) -> tuple[str, ...]:
        return control_strings_of(settings.model)

    def ask(self, job: JudgingJob, run: Run, shard: Shard) -> tuple[Judgments, Tally]:
        from modpo_hpc.llm.endpoints import ServersAddress

        settings, server = job.settings, job.settings.server
        logs = run.logs / shard.stage.name / shard.id
        address = partial(ServersAddress, server, settings.model, run.study.models.dtype, logs)
        # a call may wait while its server starts again
        patience = 3 * settings.timeout_seconds + 120 + 60 * server.ready_minutes * (server.restarts + 1)
        return ask_over_http(job, address, server.name, server.gpus, patience)
