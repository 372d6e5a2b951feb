"""Stages that train policies, search for their settings, and merge them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modpo_hpc.core.contents import configuration_hash, file_hash, folder_hash
from modpo_hpc.stages import workload
from modpo_hpc.stages.definitions import definitions
from modpo_hpc.stages.rewards import TRAINING_TEXTS, scores_of, trials_of
from modpo_hpc.stages.stage import Growth, Needs, Shards, Stage, before_dot, below
from modpo_hpc.stages.texts import BASE
from modpo_hpc.stages.workload import Counts, WorkerSpeeds, Workload

if TYPE_CHECKING:
    from modpo_hpc.study import Study


def policies_made_by(stage: str) -> Shards:
    """The policies of the study whose adapters are made by ``stage``."""
    return lambda study: tuple(name for name, policy in study.alignment.policies.items() if policy.stage == stage)


def _policy_trials(study: Study) -> tuple[str, ...]:
    trials = range(study.alignment.search.trials)
    searched = [name for name, policy in study.alignment.trained.items() if policy.is_searched]
    return tuple(f"{policy}.{trial}" for policy in searched for trial in trials)


def _material_of(study: Study, policy: str) -> dict[str, tuple[str, ...] | None]:
    one = study.alignment.trained_policy(policy)
    scores = scores_of(study, *one.margin_criteria)
    return {
        "questions": None, "models": (BASE,), "responses": None,
        "pairs": tuple(dict.fromkeys((*one.criteria, *one.vote_criteria))),
        **({"scores": scores} if scores else {}),
        **({"personas": None, "rankings": None} if one.group_attribute else {}),
    }  # fmt: skip


def _settings_of(study: Study, policy: str) -> dict[str, Any]:
    settings, one, ranking = study.alignment.training_of(policy), study.alignment.trained_policy(policy), study.ranking
    found = {"settings": settings.model_dump(mode="json"), **_method_from_outside(study, policy)}
    if settings.deepspeed:
        found["DeepSpeed configuration"] = configuration_hash(settings.deepspeed)
    if one.corrects:
        found |= definitions(study, tuple(one.criteria))
    if one.vote_criteria or one.group_attribute is not None:  # the loss takes votes: what they are counted by
        found["ballots"] = [*ranking.weights, ranking.personas_per_question, len(study.panel)]
    return found


def _method_from_outside(study: Study, policy: str) -> dict[str, Any]:
    """The file of a method that is not the package's own, which has no version of ours, and what its fields name."""
    one = study.alignment.policies[policy]
    if type(one).__module__.startswith("modpo_hpc.methods."):
        return {}
    read = {
        f"what {name} names": folder_hash(path) if path.is_dir() else file_hash(path)
        for name, path in one
        if isinstance(path, Path)
    }
    return {"file of the method": one.file_sha256[:16], **read}


def _reads_of_policy(policy: str) -> tuple[str, ...]:
    return (
        *TRAINING_TEXTS,
        "generation.instruction",
        "models.dtype",
        "models.quantization",
        "simulated",
        f"alignment.policies.{policy}",
        "-ranking",
        "-panel",
        "-criteria.files",
        "-alignment.training",
        "-alignment.search",
        "-models",
        "-resources",
    )


def _work_of_policy_trials(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
    names = [before_dot(trial) for trial in _policy_trials(study)]
    trainings = sum(study.alignment.trained_policy(name).trainings for name in names)
    epochs = statistics.mean(study.alignment.search.epochs) * trainings
    return workload.policies(study, counts, speeds, len(names), epochs, kept=False)


def _work_of_policies(stage: str) -> Callable[[Study, Counts, WorkerSpeeds], Workload]:
    def work(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
        names, alignment = policies_made_by(stage)(study), study.alignment
        epochs = sum(alignment.training_of(one).epochs * alignment.trained_policy(one).trainings for one in names)
        return workload.policies(study, counts, speeds, len(names), epochs)

    return work


POLICY_TRIALS = Stage(
    "policy_trials",
    "tune_policy",
    ("questions", "personas", "models", "responses", "rankings", "pairs", "scores"),
    _policy_trials,
    item=before_dot,
    reads=lambda policy: (
        *_reads_of_policy(policy),
        *below(
            "alignment.search", "startup", "wave", "prune_after", "learning_rate", "beta", "lora_rank", "lora_alpha",
            "lora_dropout", "micro_batch_size", "gradient_accumulation", "epochs",
        ),
    ),
    needs_of=_material_of,
    contents=_settings_of,
    uses_models=True,
    on_one_base=True,
    placed_like="policies",
    workload=_work_of_policy_trials,
    growth=Growth(questions=1, policies=1, shards=1),
)  # fmt: skip


def _needs_of_policy(study: Study, policy: str) -> Needs:
    return {**_material_of(study, policy), "policy_trials": trials_of(POLICY_TRIALS, study, policy)}


POLICIES = Stage(
    "policies",
    "align",
    ("questions", "personas", "models", "responses", "rankings", "pairs", "scores", "policy_trials"),
    policies_made_by("policies"),
    item=lambda shard: shard,
    reads=lambda policy: (*_reads_of_policy(policy), "alignment.search.trials"),
    needs_of=_needs_of_policy,
    contents=_settings_of,
    uses_models=True,
    in_ranks=True,
    on_one_base=True,
    workload=_work_of_policies("policies"),
    growth=Growth(questions=1, policies=1, shards=1),
)

CONDITIONED = Stage(
    "conditioned",
    "condition",
    ("questions", "models", "responses", "pairs", "scores", "policies"),
    policies_made_by("conditioned"),
    item=lambda shard: shard,
    reads=_reads_of_policy,
    needs_of=lambda study, policy: {
        **_material_of(study, policy), "policies": study.alignment.policies[policy].rests_on
    },
    contents=_settings_of,
    uses_models=True,
    in_ranks=True,
    on_one_base=True,
    placed_like="policies",
    workload=_work_of_policies("conditioned"),
    growth=Growth(questions=1, policies=1, shards=1),
)  # fmt: skip


def _sources_of_soup(study: Study, soup: str) -> Needs:
    policy = study.alignment.policies[soup]
    return {policy.sources_stage: policy.rests_on}


SOUPS = Stage(
    "soups",
    "merge",
    ("policies", "conditioned"),
    policies_made_by("soups"),
    item=lambda shard: shard,
    reads=lambda policy: (f"alignment.policies.{policy}", "simulated"),
    needs_of=_sources_of_soup,
    contents=_method_from_outside,
    uses_models=True,
    growth=Growth(policies=1, shards=1),
)
