"""Best of n: the answer of another policy that reward models, weighted, like best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from modpo_hpc.methods.method import Method, check_criteria

if TYPE_CHECKING:
    from modpo_hpc.study import Study


class Rerank(Method):
    """Answers with the best of several answers of ``source``, by the weighted rewards of its criteria.

    It stands where MATO would, which fits weights at test time by an update that is not public: weights cost nothing
    here but a choice among answers that are there. Rewards are those of the final models on the study's scale. The
    more answers there are, the more the choice finds what the reward models overrate (Gao et al. 2023).
    """

    label: ClassVar[str] = "best of n by rewards"

    method: Literal["rerank"] = "rerank"
    source: str = Field(description="policy whose answers are chosen from: the base model, or one with an adapter")
    criteria: dict[str, float] = Field(min_length=1, description="criterion -> weight of its reward")
    candidates: int = Field(8, ge=2, description="answers to each question")

    @property
    def made_of(self) -> Mapping[str, float]:
        return self.criteria

    @property
    def experts(self) -> Mapping[str, float]:
        return {self.source: 1.0}

    @property
    def chosen_by(self) -> Mapping[str, float]:
        return self.criteria

    @property
    def answers_a_question(self) -> int:
        return self.candidates

    @model_validator(mode="after")
    def _something_to_choose_by(self) -> Rerank:
        if not any(self.criteria.values()):
            raise ValueError("at least one criterion needs a weight other than zero")
        return self

    def check(self, name: str, study: Study) -> None:
        source = study.alignment.policies.get(self.source)
        if source is None or (source.stage is None and not source.is_baseline):
            raise ValueError(
                f"alignment.policies.{name}.source is {self.source!r}, which is neither the base model nor a policy "
                "with an adapter in this study"
            )
        if study.generation.answers.temperature == 0:
            raise ValueError(
                f"policy {name} chooses among answers, and with generation.answers.temperature 0 they are all the same"
            )
        check_criteria(name, self.criteria, study)
