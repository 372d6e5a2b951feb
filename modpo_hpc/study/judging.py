"""Sections of the study on criteria, persona rankings and head-to-head judging."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from modpo_hpc.study.section import Section


class Judge(Section):
    """Who plays the persona."""

    kind: Literal["rules", "openai", "batch", "server"] = "rules"
    model: str = Field("rules", description="model name as the endpoint knows it")
    temperature: float | None = 0.0
    max_tokens: int = Field(1024, ge=1)
    prompt_order: Literal["shared_prefix", "criteria_last"] = Field(
        "shared_prefix", description="persona and criteria first, which servers compute once; or the criteria last"
    )
    ledger: Path | None = Field(None, description="folder of raw answers that studies share; DIR/ledger if empty")


class Ranking(Section):
    """Training personas rank the responses of each training question."""

    personas_per_question: int = Field(50, ge=1)
    weights: tuple[int, ...] = Field((10, 5, 0, -5, -10), description="vote of each rank, best first; sums to zero")


class Phase(Section):
    """One round of head-to-head judging: every pair of ``policies`` under every criterion."""

    policies: tuple[str, ...] = Field(min_length=2)
    criteria: tuple[str, ...] = Field(min_length=1)


class Judging(Section):
    """Test personas judge every pair of policies."""

    personas_per_question: int = Field(50, ge=2)
    phases: dict[str, Phase] = Field(min_length=1)


class Criteria(Section):
    """The criteria of the study: files of definitions, and the names used to rank responses."""

    files: tuple[Path, ...] = (
        Path("configs/criteria/therapeutic.yaml"),
        Path("configs/criteria/gricean.yaml"),
    )
    rank: tuple[str, ...] = Field(min_length=1, description="criteria that training personas rank by")
