"""Stages of the reward models: their search, the models, and what they score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modpo_hpc.stages import workload
from modpo_hpc.stages.rewarded import SCORED, final_models, scoring_models
from modpo_hpc.stages.stage import Growth, Stage, before_dot, below, fields
from modpo_hpc.stages.texts import REWARD, answers_of_policy
from modpo_hpc.stages.workload import Counts, WorkerSpeeds, Workload
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


def _work_of_reward_trials(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
    return workload.reward_models(study, counts, speeds, len(_reward_trials(study)), 0)


REWARD_TRIALS = Stage(
    "reward_trials",
    "tune_reward",
    ("questions", "models", "responses", "pairs"),
    _reward_trials,
    item=before_dot,
    # the number of trials is no part of a trial: what trial 7 draws follows from its number and the waves before it
    reads=fields(
        *TRAINING_TEXTS,
        *below("rewards", "loss", "patience", "warmup", "max_grad_norm", "held_out", "overlong", "precision"),
        *below("rewards.search", "startup", "wave", "prune_after", "learning_rate", "weight_decay", "dropout"),
        *below("rewards.search", "batch_size", "max_length", "epochs"), "rewards.score_tokens", "-rewards",
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


def _work_of_rewards(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
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
        *TRAINING_TEXTS, "-rewards", "rewards.search.trials",
        *below("rewards", "loss", "settings", "warmup", "max_grad_norm", "folds", "overlong", "precision"),
        "rewards.score_tokens",
    ),
    needs_of=lambda study, criterion: {
        "questions": None, "models": (REWARD,), "responses": None, "pairs": (criterion,),
        "reward_trials": trials_of(REWARD_TRIALS, study, criterion),
    },
    uses_models=True,
    workload=_work_of_rewards,
    growth=Growth(questions=1),
)  # fmt: skip


def scores_of(study: Study, *criteria: str) -> tuple[str, ...]:
    """The shards of the stage ``scores`` that hold the rewards by ``criteria``."""
    return SCORES.blocks_of_items(study, *criteria)


SCORES = Stage(
    "scores",
    "score",
    ("questions", "responses", "rewards"),
    lambda study: scores_of(study, *study.criteria.rank),
    item=before_dot,
    reads=fields(*TRAINING_TEXTS, *SCORED, "-rewards"),
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


def _answer_scores(study: Study) -> tuple[str, ...]:
    wanted = study.rewards.score_answers or study.alignment.sweep
    return ANSWER_SCORES.blocks_of_items(study, *study.alignment.policies) if wanted else ()


ANSWER_SCORES = Stage(
    "answer_scores",
    "score_answers",
    ("questions", "answers", "rewards"),
    _answer_scores,
    item=before_dot,
    reads=fields("seed", "data.use_test", "criteria.rank", *SCORED, "-rewards"),
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
