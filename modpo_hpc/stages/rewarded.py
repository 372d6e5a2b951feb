"""Which reward models score what, for the stages that read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modpo_hpc.study import Study

FINAL_REWARDS = (
    "rewards.scale",
    "rewards.folds",
    "rewards.precision",
    "rewards.score_tokens",
    "rewards.score_with",
    "ranking.weights",
    "ranking.personas_per_question",
)
"""Fields of the study that the rewards of texts outside the training questions rest on."""


def scoring_models(study: Study, criterion: str) -> tuple[str, ...]:
    """The models of ``criterion`` that score responses, or say on which scale: of the folds, and the final one."""
    folds = tuple(f"{criterion}.fold{fold}" for fold in range(study.rewards.folds))
    return folds if study.rewards.score_with == "folds" else (*folds, f"{criterion}.final")


def final_models(study: Study, criteria: Iterable[str]) -> tuple[str, ...]:
    """The models that score texts outside the training questions, and those that say on which scale."""
    return tuple(
        shard
        for criterion in criteria
        for shard in dict.fromkeys((*scoring_models(study, criterion), f"{criterion}.final"))
    )
