"""One adapter for every weight, and the policies that it is at given weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from modpo_hpc.methods.method import Merged, Method, OnAllCriteria, Trained
from modpo_hpc.seeds import rng_of

if TYPE_CHECKING:
    from torch import Tensor

    from modpo_hpc.alignment.adapter import Adapter
    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.run import Run
    from modpo_hpc.study import Study
    from modpo_hpc.study.alignment import Training

T = TypeVar("T", bound=Method)


class Conditioned(OnAllCriteria):
    """One adapter for every weight: its update is a form of second degree in the weights of the criteria.

    It starts as the exact soup of the adapters of ``start`` and is trained over weights drawn anew for each step (the
    idea of a bilinear adapter: PARM, arXiv 2505.06274; of training over random weights: COS-DPO, arXiv 2410.08316). As
    a policy of its own it answers at the weights of ``criteria``; other weights are policies of method ``at_weights``.
    """

    label: ClassVar[str] = "one adapter for every weight"
    stage: ClassVar[str | None] = "conditioned"
    is_searched: ClassVar[bool] = False
    least_criteria: ClassVar[int] = 2

    method: Literal["conditioned"] = "conditioned"
    start: dict[str, str] = Field(description="criterion -> trained policy whose adapter it begins as")
    objective: Literal["weighted_dpo", "joint_dpo", "modpo"] = Field(
        "weighted_dpo", description="loss at the weights of a step: the criteria's DPO losses, or as these methods"
    )
    concentration: float = Field(
        0.1, gt=0, description="of the Dirichlet distribution of the weights; 1: all alike, less: more near the ends"
    )

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Conditioned:
        if set(self.start) != set(self.criteria):
            raise ValueError(
                f"start names policies for {', '.join(self.start) or 'nothing'}, and the criteria are "
                f"{', '.join(self.criteria)}; give one for each"
            )
        return self

    @property
    def rests_on(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.start.values()))

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights of the criteria as shares of one."""
        return tuple(weight / sum(self.weights) for weight in self.weights)

    @property
    def margin_criteria(self) -> tuple[str, ...]:
        return tuple(self.criteria) if self.objective == "modpo" else ()

    def check(self, name: str, study: Study) -> None:
        super().check(name, study)
        for criterion, source in self.start.items():
            one = study.alignment.policies.get(source)
            if not isinstance(one, Trained) or one.stage != "policies":
                raise ValueError(
                    f"alignment.policies.{name}.start.{criterion} names {source!r}, which is no trained policy with an "
                    "adapter of its own"
                )
        settings = study.alignment.training_of(name)
        if settings.deepspeed is not None:
            raise ValueError(f"alignment.policies.{name}: an adapter for every weight is trained without deepspeed")

    def in_step(self, seed: int, number: int) -> Trained:
        rng = rng_of(seed, "weights", number)
        drawn = rng.dirichlet([self.concentration] * len(self.criteria))
        return self.model_copy(update={"criteria": dict(zip(self.criteria, map(float, drawn), strict=True))})

    def attach(self, run: Run, model: Any, settings: Training, seed: int) -> Any:
        from modpo_hpc.alignment.conditioned import ConditionedModel, start_from
        from modpo_hpc.alignment.soup import read_source

        sources = [
            read_source(one, run.folder("policies") / one / "adapter")
            for one in (self.start[criterion] for criterion in self.criteria)
        ]
        return ConditionedModel(model, start_from(sources), sources[0].config, settings.lora_dropout)

    def set_up(self, adapted: Any) -> None:
        adapted.set_weights(self.shares)

    def adapters(self, adapted: Any, weights: Mapping[str, Tensor]) -> dict[str, Adapter]:
        from modpo_hpc.alignment.conditioned import left_by

        return left_by(adapted, weights, tuple(self.criteria), self.criteria)

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        from modpo_hpc.alignment import losses

        h, weights = batch.log_ratios(logps), logps.new_tensor(self.shares)
        if self.objective == "modpo":
            margins = batch.rewards[batch.chosen] - batch.rewards[batch.rejected]
            values, metrics = losses.modpo_over_anchors_loss(h, margins, weights, settings.beta)
        elif self.objective == "joint_dpo":
            values, metrics = losses.joint_dpo_loss(h, weights, settings.beta)
        else:
            values, metrics = losses.weighted_dpo_loss(h, weights, settings.beta)
        agreement = weights @ (h.detach() > 0).float()
        return values, {**metrics, "accuracy": agreement, "reward_margin": settings.beta * (weights @ h.detach())}


class WorkedOut(Method):
    """What the training of the policy ``of`` left, at weights that a subclass gives."""

    stage: ClassVar[str | None] = "soups"
    sources_stage: ClassVar[str] = "conditioned"

    of: str

    @property
    def rests_on(self) -> tuple[str, ...]:
        return (self.of,)

    def source(self, name: str, study: Study, method: type[T]) -> T:
        """The policy ``of`` in ``study``; ``name`` is this one's. ValueError where it is none of ``method``."""
        found = study.alignment.policies.get(self.of)
        if not isinstance(found, method):
            wanted = method.model_fields["method"].default
            raise ValueError(f"alignment.policies.{name}.of names {self.of!r}, which is no policy of method {wanted}")
        return found

    def merged_at(self, folder_of: Mapping[str, Path], weights: Mapping[str, float], facts: dict[str, Any]) -> Merged:
        """The adapter at ``weights``, with what ``facts`` say of it."""
        from modpo_hpc.alignment.conditioned import WHOLE, at_weights, read_conditioned

        return Merged(*at_weights(*read_conditioned(folder_of[self.of] / WHOLE), weights), {"of": self.of, **facts})


class AtWeights(WorkedOut):
    """A conditioned policy at weights of one's own: a plain adapter, worked out without training."""

    label: ClassVar[str] = "conditioned adapter at given weights"

    method: Literal["at_weights"] = "at_weights"
    of: str = Field(description="the conditioned policy")
    criteria: dict[str, float] = Field(description="criterion -> weight; they count as shares of their sum")

    @field_validator("criteria")
    @classmethod
    def _weights(cls, criteria: dict[str, float]) -> dict[str, float]:
        if any(weight < 0 for weight in criteria.values()) or not any(criteria.values()):
            raise ValueError("weights are zero or more, one above zero")
        return criteria

    @property
    def made_of(self) -> Mapping[str, float]:
        return self.criteria

    def check(self, name: str, study: Study) -> None:
        known = self.source(name, study, Conditioned).criteria
        if odd := [criterion for criterion in self.criteria if criterion not in known]:
            raise ValueError(f"alignment.policies.{name}.criteria names {odd[0]!r}; {self.of} knows {', '.join(known)}")

    def merged(self, folder_of: Mapping[str, Path]) -> Merged:
        return self.merged_at(folder_of, self.criteria, {"weights": self.criteria})
