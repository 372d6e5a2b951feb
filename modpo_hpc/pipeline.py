"""The stages: what each needs, its shards and what a shard is made from. Data, no behaviour."""

from __future__ import annotations

from modpo_hpc.errors import InputError
from modpo_hpc.stages import judgments, personalization, rewards, texts, training
from modpo_hpc.stages.rewards import reward_parts
from modpo_hpc.stages.stage import ALL, Stage

__all__ = [
    "ALL",
    "STAGES",
    "Stage",
    "reward_parts",
    "stage_named",
    "with_needs",
]

STAGES: tuple[Stage, ...] = (
    texts.QUESTIONS,
    texts.PERSONAS,
    texts.MODELS,
    texts.RESPONSES,
    judgments.RANKINGS,
    judgments.PAIRS,
    rewards.REWARD_TRIALS,
    rewards.REWARDS,
    rewards.SCORES,
    personalization.PREFERENCES,
    personalization.PROFILES,
    personalization.PERSONAL_VERDICTS,
    personalization.PERSONALIZATION,
    training.POLICY_TRIALS,
    training.POLICIES,
    training.CONDITIONED,
    training.SOUPS,
    texts.ANSWERS,
    rewards.ANSWER_SCORES,
    judgments.VERDICTS,
    judgments.REPEATS,
    judgments.TOXICITY,
    judgments.FRONTS,
    judgments.STATISTICS,
    judgments.REPORT,
)
_BY_NAME = {stage.name: stage for stage in STAGES}


def stage_named(name: str) -> Stage:
    """The stage called ``name``.

    Raises:
        InputError: there is none.
    """
    if name not in _BY_NAME:
        raise InputError(
            "there is no such stage", field="stage", value=name, remedy=f"Stages are: {', '.join(_BY_NAME)}."
        )
    return _BY_NAME[name]


def with_needs(name: str) -> tuple[Stage, ...]:
    """``name`` and every stage that it rests on, in the order in which work flows."""
    wanted = {stage_named(name).name}
    for stage in reversed(STAGES):
        if stage.name in wanted:
            wanted.update(stage.needs)
    return tuple(stage for stage in STAGES if stage.name in wanted)
