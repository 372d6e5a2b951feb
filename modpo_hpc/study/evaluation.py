"""Sections of the study on statistics and on the machine that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from modpo_hpc.section import Section

SANDBOX_MARK = "sandbox: simulated judge and models"
SimulatedPart = Literal["judge", "models", "posts", "personas"]
_ALONE = {
    "judge": "simulated judge",
    "models": "simulated models",
    "posts": "invented posts",
    "personas": "invented personas",
}


def sandbox_mark(simulated: Sequence[SimulatedPart]) -> str | None:
    """The mark of results of which these parts are ``simulated``; None if none is."""
    if not simulated:
        return None
    if {"judge", "models"} <= set(simulated):
        return SANDBOX_MARK
    return f"sandbox: {', '.join(_ALONE[part] for part in simulated)}"


class Statistics(Section):
    """How verdicts become tables."""

    ties: Literal["none", "half"] = Field("none", description="what a tie counts for each side of a win rate")
    mcnemar: Literal["chi2", "chi2_corrected", "exact", "midp"] = Field("chi2", description="form of McNemar's test")
    correction: Literal["none", "holm", "bh"] = Field(
        "holm",
        description="correction behind the marks of significance, over the pairs of a phase under one criterion",
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="level of significance")
    power: float = Field(0.8, gt=0, lt=1, description="power of the smallest detectable difference")
    draws: int = Field(2000, ge=20, description="draws of other questions and personas, behind all intervals")
    confidence: float = Field(0.95, gt=0, lt=1)
    non_inferiority: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        default_factory=dict,
        description="criterion and the difference of win rates to the reference that counts as maintained; stated "
        "before the verdicts are seen",
    )
    reference: str = Field(
        "", description="policy that non-inferiority is shown against; of each phase the base policy if empty"
    )
    max_missing: float = Field(
        0.01, ge=0, le=1, description="share of missing or unparsed verdicts that a cell may have"
    )
    mixed_judges: bool = Field(
        False,
        description="verdicts that a former judge of the study gave are kept, and those of different judges, or of "
        "different models behind one name, counted together; results and report say whose they are",
    )


class Resources(Section):
    """What one shard of a stage takes."""

    cpus: int = Field(
        1, ge=1, description="also the threads of its arithmetic, so results do not depend on the machine"
    )
    memory_gb: float = Field(2.0, gt=0)
    gpus: int = Field(0, ge=0)
    nodes: int = Field(1, ge=1)
    minutes: int = Field(60, ge=1, description="time limit of one attempt")
