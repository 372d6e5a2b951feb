"""Soups: the weighted sum of the adapters of trained policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from modpo_hpc.methods.method import Method, Trained

if TYPE_CHECKING:
    from modpo_hpc.study import Study


class Soup(Method):
    """Merged from the adapters of trained policies, without training."""

    label: ClassVar[str] = "soup of adapters"
    stage: ClassVar[str | None] = "soups"

    method: Literal["soup"] = "soup"
    sources: dict[str, float] = Field(description="trained policy -> weight")
    merge: Literal["exact", "svd", "paper"] = Field(
        "exact", description="the weighted sum of updates, its best approximation of svd_rank, or averaged factors"
    )
    svd_rank: int | None = Field(None, ge=1, description="merge svd only; the largest rank of the sources if empty")

    @property
    def made_of(self) -> Mapping[str, float]:
        return self.sources

    @model_validator(mode="after")
    def _several_sources(self) -> Soup:
        if len(self.sources) < 2:
            raise ValueError("method soup takes at least two sources (policy -> weight)")
        if any(weight < 0 for weight in self.sources.values()):
            raise ValueError("weights are zero or more")
        return self

    def check(self, name: str, study: Study) -> None:
        for source in self.sources:
            if not isinstance(study.alignment.policies.get(source), Trained):
                raise ValueError(
                    f"alignment.policies.{name}.sources names {source!r}, which is no trained policy of this study"
                )
