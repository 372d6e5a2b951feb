"""The engine that the study asks for, ready to answer as one policy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from modpo_hpc.control_strings import control_strings_of
from modpo_hpc.errors import IncompleteError
from modpo_hpc.generation.groups import GenerationEngine
from modpo_hpc.generation.policies import adapter_path, link_policy_as_model, load_policy, load_product, load_tokenizer
from modpo_hpc.models import base_model_path
from modpo_hpc.resident import kept, kept_open, resident_shards
from modpo_hpc.run import Run, Shard
from modpo_hpc.stages.texts import answering
from modpo_hpc.study.generation import Sampling

if TYPE_CHECKING:
    from modpo_hpc.generation.server import Servers


@contextmanager
def policy_engine(shard: Shard, policy: str | None, sampling: Sampling) -> Iterator[GenerationEngine]:
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
def _served(shard: Shard, policy: str | None, sampling: Sampling) -> Iterator[GenerationEngine]:
    from modpo_hpc.generation.chat import LOCAL, ChatEngine
    from modpo_hpc.llm.endpoints import LocalServers

    run, settings = shard.run, shard.run.study.generation.server
    mine = _placeholders(run, policy)
    words = (*settings.command, *(settings.adapter_arguments if mine["adapter"] else ()))
    name = settings.adapter_name if mine["adapter"] else settings.base_name
    if policy is not None and any("{adapter_model}" in text for text in (*words, name)):
        folder = shard.scratch / "model" / policy
        link_policy_as_model(run, policy, folder)
        mine["adapter_model"] = str(folder)
    with ExitStack() as stack:
        shared = kept(("adapters", run.root), lambda: _shared(shard))  # as they were when the servers started
        if shared is not None and (policy in shared or not mine["adapter"]):
            servers = kept_open(("servers", run.root), lambda: _started(shard, [*shared.values()]))
        else:
            servers = stack.enter_context(_started(shard, [mine]))
        restarts = servers.restarts
        yield ChatEngine(
            LocalServers(servers),
            _fill(name, mine),
            sampling,
            LOCAL.model_copy(update={"window": settings.requests * len(servers.urls)}),
            instruction=run.study.generation.instruction,
            check=shard.check,
            control=control_strings_of(mine["model"]),
        )
        shard.metrics["server_restarts"] = float(servers.restarts - restarts)


def _started(shard: Shard, policies: Sequence[Mapping[str, str]]) -> AbstractContextManager[Servers]:
    """Servers of the base model with an adapter for each of ``policies``, which are given by their placeholders."""
    from modpo_hpc.generation.server import devices_of_job, serve

    settings = shard.run.study.generation.server
    adapted = [one for one in policies if one["adapter"]]
    one = policies[0] if len(policies) == 1 else _placeholders(shard.run, None)
    words = [_fill(word, one) for word in settings.command]
    if adapted:
        rank = max((known["rank"] for known in adapted), key=int)
        for word in settings.adapter_arguments:
            words += dict.fromkeys(_fill(word, {**known, "rank": rank}) for known in adapted)
    return serve(
        words,
        logs=shard.run.logs / shard.stage.name / shard.id,
        devices=devices_of_job(settings.gpus),
        health=settings.health,
        ready_seconds=60 * settings.ready_minutes,
        max_restarts=settings.restarts,
    )


def _shared(shard: Shard) -> dict[str, dict[str, str]] | None:
    """Policy -> placeholders, of all whose adapters the servers that this process keeps are to have.

    None where it keeps none, or where the study's server is started for one policy.
    """
    settings, shards = shard.run.study.generation.server, resident_shards()
    command, arguments = "".join(settings.command), "".join(settings.adapter_arguments)
    if shards is None or "{adapter" in command or "{policy}" in command or "{adapter_model}" in arguments:
        return None
    whole = Run.open(shard.run.root)  # a shard may see its own policy alone, and the others decide no text of it
    found: dict[str, dict[str, str]] = {}
    policies = dict.fromkeys(map(shard.stage.item, shards))
    for name in dict.fromkeys(model for policy in policies for model in answering(whole.study, policy)):
        with suppress(IncompleteError):
            known = _placeholders(whole, name)
            found |= {name: known} if known["adapter"] else {}
    return found


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


def _fill(word: str, known: Mapping[str, str]) -> str:
    for name, value in known.items():
        word = word.replace("{" + name + "}", value)
    return word
