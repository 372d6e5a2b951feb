"""Which reward models score what, for the stages that read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from modpo_hpc.stages.stage import below

if TYPE_CHECKING:
    from modpo_hpc.study import Study

SCORED = (
    *below("rewards", "scale", "folds", "precision", "score_tokens", "score_with"),
    *below("ranking", "weights", "personas_per_question"),
)
"""What every reward of a text rests on, besides the models that score it."""


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
