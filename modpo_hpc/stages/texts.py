"""Stages of what people and models wrote: questions, personas, models, responses, answers."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from modpo_hpc.core.contents import file_hash, folder_hash
from modpo_hpc.stages import workload
from modpo_hpc.stages.definitions import definitions
from modpo_hpc.stages.rewarded import SCORED, final_models
from modpo_hpc.stages.stage import Growth, Needs, Stage, before_dot, below, blocks_of, fields, whole

if TYPE_CHECKING:
    from modpo_hpc.study import Study

BASE, REWARD, TOXICITY_MODEL = "base", "reward", "toxicity"
SANDBOX = "sandbox"
SAMPLED = (
    "seed",
    *below("generation", "instruction", "engine", "server.command", "server.adapter_arguments"),
    "-generation.server",
    "models.dtype",
    "models.quantization",
    "-models.attention",
)
"""What every text of a model rests on, besides how it is sampled."""


def _posts(study: Study, _: str) -> dict[str, Any]:
    data = study.data
    return {name: file_hash(path) for name, path in (("data.epitome", data.epitome), ("data.file", data.file)) if path}


QUESTIONS = Stage(
    "questions",
    "prepare",
    (),
    whole,
    reads=fields(
        "seed",
        *below("data", "id_column", "text_column", "min_characters", "max_characters", "min_words", "test_size"),
        *below("data", "sandbox_train", "sandbox_test"),
        "-data",
    ),
    contents=_posts,
    growth=Growth(questions=1),
)


def _surveys(study: Study, _: str) -> dict[str, Any]:
    personas = study.personas
    columns = {"columns": file_hash(personas.columns)} if personas.columns else {}
    return {**{f"surveys.{name}": file_hash(path) for name, path in personas.surveys.items()}, **columns}


PERSONAS = Stage(
    "personas",
    "personas",
    (),
    whole,
    reads=fields(
        "seed",
        *below("personas", "quality_floor", "select", "quota", "train", "test", "rarest_in_test"),
        "-personas",
    ),
    contents=_surveys,
    growth=Growth(personas=1),
)


def _models(study: Study) -> tuple[str, ...]:
    """The base model, the encoder of the reward models, and each model that looks for toxicity."""
    toxic = (f"{TOXICITY_MODEL}.{name}" for name, one in study.toxicity.backends.items() if one.has_model)
    return (BASE, REWARD, *toxic)


def _fields_of_model(role: str) -> tuple[str, ...]:
    if role == BASE:
        return ("seed", "models.base", "models.base_revision", "models.teach_steps", "generation.instruction")
    if role == REWARD:
        return ("seed", "models.reward", "models.reward_revision")
    return (f"toxicity.backends.{role.partition('.')[2]}",)


def model_of(study: Study, role: str) -> tuple[str, str | None]:
    """The name on the hub, folder or ``sandbox`` that plays ``role``, and its revision."""
    if role == BASE:
        return study.models.base, study.models.base_revision
    if role == REWARD:
        return study.models.reward, study.models.reward_revision
    backend = study.toxicity.backends[role.partition(".")[2]]
    return backend.model_name, backend.revision


def _needs_of_model(study: Study, role: str) -> Needs:
    return {"questions": None} if model_of(study, role)[0] == SANDBOX else {}


def _folder_of_model(study: Study, role: str) -> dict[str, Any]:
    found = folder_hash(model_of(study, role)[0])
    return {} if found == "absent" else {f"folder of {role}": found}


MODELS = Stage(
    "models",
    "teach",
    ("questions",),
    _models,
    item=lambda shard: shard,
    reads=_fields_of_model,
    needs_of=_needs_of_model,
    contents=_folder_of_model,
    uses_models=True,
)

RESPONSES = Stage(
    "responses",
    "generate",
    ("questions", "models"),
    blocks_of("responses"),
    reads=fields(*SAMPLED, "generation.responses", "generation.responses_per_question", "data.use_train"),
    needs_of=lambda study, _: {"questions": None, "models": (BASE,)},
    in_blocks=True,
    uses_models=True,
    workload=workload.responses,
    growth=Growth(questions=1),
)


def _answers(study: Study) -> tuple[str, ...]:
    return ANSWERS.blocks_of_items(study, *study.alignment.policies)


def answers_of_policy(study: Study, policy: str) -> tuple[str, ...]:
    """The shards of the stage ``answers`` that hold what ``policy`` says."""
    return ANSWERS.blocks_of_items(study, policy)


def _needs_of_answers(study: Study, policy: str) -> Needs:
    one = study.alignment.policies[policy]
    if one.is_remote:
        return {"questions": None}
    needs: dict[str, tuple[str, ...] | None] = {"questions": None, "models": (BASE,)}
    for name in answering(study, policy):
        if stage := study.alignment.policies[name].stage:
            needs[stage] = (*(needs.get(stage) or ()), name)
    if one.chosen_by:
        needs["rewards"] = final_models(study, one.chosen_by)
    return needs


def answering(study: Study, policy: str) -> tuple[str, ...]:
    """The policies whose models are asked for an answer of ``policy``."""
    asked = (policy, study.alignment.policies[policy].drafts_of)
    return tuple(dict.fromkeys(
        model for one in asked if one for model in study.alignment.policies[one].experts or (one,)
    ))  # fmt: skip


def _answered_how(study: Study, policy: str) -> dict[str, Any]:
    """What answers rest on beside a model, for methods that answer with others' models, choose or correct answers."""
    one = study.alignment.policies[policy]
    how: dict[str, Any] = {}
    if one.experts or one.chosen_by:
        how["answered by"] = one.model_dump(mode="json")
    if one.drafts_of:
        drafter = study.alignment.policies[one.drafts_of]
        how["drafts"] = [one.drafts_of, drafter.method, dict(drafter.experts)]
        how |= definitions(study, one.corrects_by)
        if drafter.is_remote:
            how["drafts from"] = study.generation.remote[one.drafts_of].model_dump(mode="json")
    if study.generation.common_random_numbers:
        how["random numbers"] = "common to all policies"
    return how | {name: attrgetter(name)(study) for name in SCORED if one.chosen_by}


ANSWERS = Stage(
    "answers",
    "answer",
    ("questions", "models", "rewards", "policies", "conditioned", "soups"),
    _answers,
    item=before_dot,
    reads=lambda policy: (
        *SAMPLED,
        "generation.answers",
        "-generation.common_random_numbers",
        f"alignment.policies.{policy}.method",
        f"generation.remote.{policy}",
        "-generation.remote",
        "-alignment.policies",
        "-criteria.files",
        "-rewards",
        "-ranking",
        "-judge",  # the ledger that remote answers share
        "data.use_test",
    ),
    needs_of=_needs_of_answers,
    contents=_answered_how,
    in_blocks=True,
    default_blocks=1,
    uses_models=True,
    on_one_server=True,
    workload=workload.answers,
    growth=Growth(questions=1, policies=1, shards=1),
)
