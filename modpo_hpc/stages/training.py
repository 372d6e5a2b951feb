"""Stages that train: reward models and their search, scores, policies and their search, soups."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modpo_hpc.core.contents import configuration_hash, file_hash, folder_hash
from modpo_hpc.stages import workload
from modpo_hpc.stages.rewarded import FINAL_REWARDS, final_models, scoring_models
from modpo_hpc.stages.stage import Growth, Needs, Shards, Stage, before_dot, fields
from modpo_hpc.stages.texts import BASE, REWARD, answers_of_policy
from modpo_hpc.stages.workload import Counts, Speeds, Workload
from modpo_hpc.study.rewards import LOSSES

if TYPE_CHECKING:
    from modpo_hpc.study import Study

TRAINING_TEXTS = ("seed", "data.use_train")


def _reward_trials(study: Study) -> tuple[str, ...]:
    """By trial, then by criterion: the trials that a later one learns from are long finished when it starts."""
    trials = range(study.rewards.search.trials)
    return tuple(f"{criterion}.{trial}" for trial in trials for criterion in study.criteria.rank)


def trials_of(stage: Stage, study: Study, item: str) -> tuple[str, ...]:
    """The shards of a stage of trials that search for ``item``."""
    return tuple(shard for shard in stage.shards(study) if before_dot(shard) == item)


def _work_of_reward_trials(study: Study, counts: Counts, speeds: Speeds) -> Workload:
    return workload.reward_models(study, counts, speeds, len(_reward_trials(study)), 0)


REWARD_TRIALS = Stage(
    "reward_trials",
    "tune_reward",
    ("questions", "models", "responses", "pairs"),
    _reward_trials,
    item=before_dot,
    # the number of trials is no part of a trial: what trial 7 draws follows from its number and the waves before it
    reads=fields(
        *TRAINING_TEXTS, "rewards.loss", "rewards.patience", "rewards.warmup", "rewards.max_grad_norm",
        "rewards.held_out", "rewards.overlong", "rewards.precision", "rewards.score_tokens", "rewards.search.startup",
        "rewards.search.wave", "rewards.search.prune_after", "rewards.search.learning_rate",
        "rewards.search.weight_decay", "rewards.search.dropout", "rewards.search.batch_size",
        "rewards.search.max_length", "rewards.search.epochs", "-rewards",
    ),
    needs_of=lambda study, criterion: {
        "questions": None, "models": (REWARD,), "responses": None, "pairs": (criterion,)
    },
    uses_models=True,
    placed_like="rewards",
    workload=_work_of_reward_trials,
    growth=Growth(questions=1),
)  # fmt: skip


def reward_parts(study: Study) -> tuple[str, ...]:
    """The models of one criterion: a fold's, a point of the learning curve (per cent), the other loss, the final."""
    rewards = study.rewards
    folds = [f"fold{fold}" for fold in range(rewards.folds)]
    curve = [f"curve{100 * share:g}" for share in rewards.learning_curve]
    other = [loss for loss in LOSSES if rewards.compare_losses and loss != rewards.loss]
    return (*folds, *curve, *other, "final")


def _reward_models(study: Study) -> tuple[str, ...]:
    return tuple(f"{criterion}.{part}" for criterion in study.criteria.rank for part in reward_parts(study))


def _work_of_rewards(study: Study, counts: Counts, speeds: Speeds) -> Workload:
    ranked = len(study.criteria.rank)
    models = ranked * len(reward_parts(study))
    return workload.reward_models(study, counts, speeds, models, ranked * (study.rewards.folds + 1))


REWARDS = Stage(
    "rewards",
    "train_reward",
    ("questions", "models", "responses", "pairs", "reward_trials"),
    _reward_models,
    item=before_dot,
    reads=fields(
        *TRAINING_TEXTS, "rewards.loss", "rewards.settings", "rewards.warmup", "rewards.max_grad_norm",
        "rewards.folds", "rewards.overlong", "rewards.precision", "rewards.score_tokens", "rewards.search.trials",
        "-rewards",
    ),
    needs_of=lambda study, criterion: {
        "questions": None, "models": (REWARD,), "responses": None, "pairs": (criterion,),
        "reward_trials": trials_of(REWARD_TRIALS, study, criterion),
    },
    uses_models=True,
    workload=_work_of_rewards,
    growth=Growth(questions=1),
)  # fmt: skip


def _scores(study: Study) -> tuple[str, ...]:
    blocks = range(SCORES.blocks(study))
    return tuple(f"{criterion}.{block}" for criterion in study.criteria.rank for block in blocks)


def scores_of(study: Study, criterion: str) -> tuple[str, ...]:
    """The shards of the stage ``scores`` that hold the rewards by ``criterion``."""
    return tuple(f"{criterion}.{block}" for block in range(SCORES.blocks(study)))


SCORES = Stage(
    "scores",
    "score",
    ("questions", "responses", "rewards"),
    _scores,
    item=before_dot,
    reads=fields(
        *TRAINING_TEXTS, "rewards.scale", "rewards.score_with", "rewards.folds", "rewards.precision",
        "rewards.score_tokens", "ranking.weights", "ranking.personas_per_question", "-rewards",
    ),
    needs_of=lambda study, criterion: {
        "questions": None, "responses": None, "rewards": scoring_models(study, criterion)
    },
    in_blocks=True,
    default_blocks=1,
    uses_models=True,
    workload=lambda study, counts, speeds: workload.scored(
        study, counts.train * study.generation.responses_per_question, workload.response_tokens(study), speeds
    ),
    growth=Growth(questions=1),
)  # fmt: skip


def policies_made_by(stage: str) -> Shards:
    """The policies of the study whose adapters are made by ``stage``."""
    return lambda study: tuple(name for name, policy in study.alignment.policies.items() if policy.stage == stage)


def _policy_trials(study: Study) -> tuple[str, ...]:
    trials = range(study.alignment.search.trials)
    searched = [name for name, policy in study.alignment.trained.items() if policy.is_searched]
    return tuple(f"{policy}.{trial}" for policy in searched for trial in trials)


def _material_of(study: Study, policy: str) -> dict[str, tuple[str, ...] | None]:
    one = study.alignment.trained_policy(policy)
    scores = tuple(shard for criterion in one.margin_criteria for shard in scores_of(study, criterion))
    return {
        "questions": None, "models": (BASE,), "responses": None,
        "pairs": tuple(dict.fromkeys((*one.criteria, *one.vote_criteria))),
        **({"scores": scores} if scores else {}),
        **({"personas": None, "rankings": None} if one.group_attribute else {}),
    }  # fmt: skip


def _settings_of(study: Study, policy: str) -> dict[str, Any]:
    settings = study.alignment.training_of(policy)
    configuration = {"DeepSpeed configuration": configuration_hash(settings.deepspeed)} if settings.deepspeed else {}
    return {
        "settings": settings.model_dump(mode="json"),
        **configuration,
        **_ballots_of(study, policy),
        **_method_from_outside(study, policy),
    }


def _ballots_of(study: Study, policy: str) -> dict[str, Any]:
    """What votes are counted by, for a method whose loss takes them."""
    ranking = study.ranking
    one = study.alignment.trained_policy(policy)
    if not one.vote_criteria and one.group_attribute is None:
        return {}
    return {"ballots": [*ranking.weights, ranking.personas_per_question, len(study.panel)]}


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
        "-alignment.training",
        "-alignment.search",
        "-models",
        "-resources",
    )


def _work_of_policy_trials(study: Study, counts: Counts, speeds: Speeds) -> Workload:
    epochs = statistics.mean(study.alignment.search.epochs)
    return workload.policies(study, counts, speeds, len(_policy_trials(study)), epochs, kept=False)


POLICY_TRIALS = Stage(
    "policy_trials",
    "tune_policy",
    ("questions", "personas", "models", "responses", "rankings", "pairs", "scores"),
    _policy_trials,
    item=before_dot,
    reads=lambda policy: (
        *_reads_of_policy(policy),
        *(
            f"alignment.search.{name}"
            for name in (
                "startup", "wave", "prune_after", "learning_rate", "beta", "lora_rank", "lora_alpha", "lora_dropout",
                "micro_batch_size", "gradient_accumulation", "epochs",
            )
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
    workload=lambda study, counts, speeds: workload.policies(
        study, counts, speeds, len(policies_made_by("policies")(study)), study.alignment.training.epochs
    ),
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
    workload=lambda study, counts, speeds: workload.policies(
        study, counts, speeds, len(policies_made_by("conditioned")(study)), study.alignment.training.epochs
    ),
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
    reads=fields("alignment.policies.{item}", "simulated"),
    needs_of=_sources_of_soup,
    contents=_method_from_outside,
    uses_models=True,
    growth=Growth(policies=1, shards=1),
)


def _answer_scores(study: Study) -> tuple[str, ...]:
    if not (study.rewards.score_answers or study.alignment.sweep):
        return ()
    return tuple(f"{policy}.{block}" for policy in study.alignment.policies for block in range(1))


ANSWER_SCORES = Stage(
    "answer_scores",
    "score_answers",
    ("questions", "answers", "rewards"),
    _answer_scores,
    item=before_dot,
    reads=fields("seed", "data.use_test", "criteria.rank", *FINAL_REWARDS, "-rewards"),
    needs_of=lambda study, policy: {
        "questions": None,
        "answers": answers_of_policy(study, policy),
        "rewards": final_models(study, study.criteria.rank),
    },
    in_blocks=True,
    default_blocks=1,
    uses_models=True,
    placed_like="scores",
    workload=lambda study, counts, speeds: workload.scored(
        study, counts.test * len(study.alignment.policies), workload.answer_tokens(study), speeds
    ),
    growth=Growth(questions=1, policies=1, shards=1),
)  # fmt: skip
