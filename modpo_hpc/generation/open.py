"""The engine that the study asks for, ready to answer as one policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modpo_hpc.control_strings import control_strings_of
from modpo_hpc.generation.groups import Engine
from modpo_hpc.generation.policies import adapter_path, link_policy_as_model, load_policy, load_product, load_tokenizer
from modpo_hpc.models import base_model_path
from modpo_hpc.run import Run, Shard
from modpo_hpc.study.generation import Sampling


@contextmanager
def policy_engine(shard: Shard, policy: str | None, sampling: Sampling) -> Iterator[Engine]:
    """An engine that answers as ``policy``, or as the base model if that is None."""
    run, generation = shard.run, shard.run.study.generation
    experts = {} if policy is None else run.study.alignment.policies[policy].experts
    if list(experts.values()) == [1.0]:
        (policy,), experts = experts, {}
    if policy is not None and run.study.alignment.policies[policy].is_remote:
        from modpo_hpc.generation.chat import remote_engine
        from modpo_hpc.llm.store import ledger_folder

        folder, instruction = ledger_folder(run), generation.instruction
        with remote_engine(policy, generation.remote[policy], sampling, folder, instruction, shard.check) as engine:
            yield engine
    elif generation.engine == "server":
        with _served(shard, policy, sampling) as engine:
            yield engine
    else:
        from modpo_hpc.generation.engine import TransformersEngine

        model = load_product(run, experts) if experts else load_policy(run, policy)
        yield TransformersEngine(model, load_tokenizer(run), sampling, generation.instruction)


@contextmanager
def _served(shard: Shard, policy: str | None, sampling: Sampling) -> Iterator[Engine]:
    from modpo_hpc.generation.chat import LOCAL, ChatEngine
    from modpo_hpc.generation.server import devices_of_job, serve
    from modpo_hpc.llm.endpoints import LocalServers

    settings = shard.run.study.generation.server
    known = _placeholders(shard.run, policy)
    words = [*settings.command, *(settings.adapter_arguments if known["adapter"] else ())]
    name = settings.adapter_name if known["adapter"] else settings.base_name
    if policy is not None and any("{adapter_model}" in text for text in (*words, name)):
        folder = shard.scratch / "model" / policy
        link_policy_as_model(shard.run, policy, folder)
        known["adapter_model"] = str(folder)
    with serve(
        [_fill(word, known) for word in words],
        logs=shard.run.logs / shard.stage.name / shard.id,
        devices=devices_of_job(settings.gpus),
        health=settings.health,
        ready_seconds=60 * settings.ready_minutes,
        max_restarts=settings.restarts,
    ) as servers:
        instruction = shard.run.study.generation.instruction
        asked = LOCAL.model_copy(update={"window": settings.requests * len(servers.urls)})
        yield ChatEngine(
            LocalServers(servers),
            _fill(name, known),
            sampling,
            asked,
            instruction=instruction,
            check=shard.check,
            control=control_strings_of(known["model"]),
        )
        shard.metrics["server_restarts"] = float(servers.restarts)


def _placeholders(run: Run, policy: str | None) -> dict[str, str]:
    adapter = adapter_path(run, policy)
    return {
        "model": base_model_path(run),
        "dtype": run.study.models.dtype,
        "policy": policy or "base",
        "adapter": str(adapter or ""),
        "rank": str(_rank_of(adapter)) if adapter else "",
    }


def _rank_of(adapter: Path) -> int:
    """The largest rank in an adapter, rounded up to a power of two: vLLM takes 8, 16, 32, ... only."""
    settings = json.loads((adapter / "adapter_config.json").read_text())
    rank = max(settings["r"], *settings.get("rank_pattern", {}).values(), 8)
    return 1 << (rank - 1).bit_length()


def _fill(word: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        word = word.replace("{" + name + "}", value)
    return word
