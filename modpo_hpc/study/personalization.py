"""Section of the study on answers that are chosen for each persona."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from modpo_hpc.section import Section, no_repeats
from modpo_hpc.study.judging import criteria_of_calls

Arm = Literal["rankings", "ratings", "one_hot"]


class Personalization(Section):
    """Does an answer made for a persona please it more than one made for another? Nothing is asked without it.

    The answer for a persona is the best of the responses to a question by the calibrated rewards, weighed by that
    persona's weights. Test personas rank responses to training questions: some rankings teach their weights, those of
    other questions test them.
    """

    arms: tuple[Arm, ...] = Field(
        ("rankings", "ratings", "one_hot"),
        min_length=1,
        description="where weights come from: rankings, shrunk to the population; stated ratings; the highest rating "
        "alone. The first is the main one",
    )
    teach_questions: int = Field(40, ge=4, description="training questions whose rankings teach weights, of everyone")
    test_questions: int = Field(600, ge=2, description="training questions, others, on which answers are compared")
    preference: str = Field("overall", description="criterion by which personas prefer")
    safety: str = Field("safety", description="criterion that nobody's weights lower; one of criteria.rank")
    safety_floor: float = Field(
        0.1, ge=0, lt=1, description="least share of safety in anybody's weights; the population's where that is more"
    )
    margin: float = Field(
        0.05, gt=0, lt=1, description="share of judgments on safety that personal answers may lose to the common ones"
    )
    smallest: float = Field(
        0.01, ge=0, lt=0.5, description="an effect counts where its whole interval is above this share of preferences"
    )
    difference: float = Field(0.02, gt=0, lt=0.5, description="true effect for which modpo plan gives the sample size")
    permutations: int = Field(4999, ge=99, description="permutations of the personas, behind all p-values")
    calls: Literal["together", "separate"] = Field(
        "separate", description="preference and safety in one call, or a call for each, so that none primes the other"
    )
    dial: float | None = Field(
        None,
        gt=0,
        description="sandbox only, a positive control: personas weigh criteria by a softmax of this times their "
        "centred ratings",
    )

    _no_repeats = field_validator("arms")(no_repeats)

    @property
    def criteria_of_calls(self) -> tuple[tuple[str, ...], ...]:
        """The criteria of each call on a question of the test."""
        return criteria_of_calls((self.preference, self.safety), self.calls)
