"""Soups: the weighted sum of the adapters of trained policies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from modpo_hpc.methods.method import Merged, Method, Trained

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

    @property
    def rests_on(self) -> tuple[str, ...]:
        return tuple(self.sources)

    def merged(self, folder_of: Mapping[str, Path]) -> Merged:
        from modpo_hpc.alignment.soup import merge, read_source

        sources = [read_source(name, folder_of[name] / "adapter") for name in self.sources]
        soup = merge(sources, tuple(self.sources.values()), self.merge, self.svd_rank)
        facts = {"merge": self.merge, "sources": self.sources, "distance_to_exact_sum": soup.error}
        return Merged(soup.weights, soup.config, facts)

    @model_validator(mode="after")
    def _several_sources(self) -> Soup:
        if len(self.sources) < 2:
            raise ValueError("method soup takes at least two sources (policy -> weight)")
        if any(weight < 0 for weight in self.sources.values()):
            raise ValueError("weights are zero or more")
        return self

    def check(self, name: str, study: Study) -> None:
        for source in self.sources:
            one = study.alignment.policies.get(source)
            if not isinstance(one, Trained) or one.stage != self.sources_stage:
                raise ValueError(
                    f"alignment.policies.{name}.sources names {source!r}, which is no trained policy of this study"
                )
