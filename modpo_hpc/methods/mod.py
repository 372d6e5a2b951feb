"""Multi-objective decoding: several policies answer together, token by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from modpo_hpc.methods.method import Method

if TYPE_CHECKING:
    from modpo_hpc.study import Study


class MOD(Method):
    """Answers with the product of experts of other policies; nothing is trained (Shi et al. 2024).

    The next token has the probability ``prod_i p_i**w_i``, normalised: under reverse KL the optimum for the weighted
    sum of the rewards that the policies are optimal for (arXiv 2406.18853). The paper's weights sum to one. Where they
    do not, the base model has the power that is left, as the same derivation gives it.
    """

    label: ClassVar[str] = "multi-objective decoding"

    method: Literal["mod"] = "mod"
    sources: dict[str, float] = Field(description="policy with an adapter -> power of its probabilities")

    @property
    def made_of(self) -> Mapping[str, float]:
        return self.sources

    @property
    def experts(self) -> Mapping[str, float]:
        return self.sources

    @model_validator(mode="after")
    def _several_sources(self) -> MOD:
        if sum(weight > 0 for weight in self.sources.values()) < 2:
            raise ValueError("method mod takes at least two sources (policy -> weight) with weights above zero")
        if any(weight < 0 for weight in self.sources.values()):
            raise ValueError("weights are zero or more")
        return self

    def check(self, name: str, study: Study) -> None:
        if study.generation.engine != "transformers":
            raise ValueError(
                f"policy {name} of method mod needs the next-token probabilities of all its sources at once, which "
                "only generation.engine: transformers gives"
            )
        for source in self.sources:
            one = study.alignment.policies.get(source)
            if one is None or one.stage is None:
                raise ValueError(
                    f"alignment.policies.{name}.sources names {source!r}, which is no policy with an adapter in this "
                    "study"
                )
