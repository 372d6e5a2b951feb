"""HaM: several policies that are trained together to maximise the hypervolume of their rewards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from modpo_hpc.methods.conditioned import WorkedOut
from modpo_hpc.methods.method import Merged, OnAllCriteria

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from modpo_hpc.alignment.adapter import Adapter
    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.run import Run
    from modpo_hpc.study import Study
    from modpo_hpc.study.alignment import Training


class HaM(OnAllCriteria):
    """Trains ``policies`` adapters whose values together have the largest hypervolume (Mukherjee et al. 2024).

    The value of policy k by criterion j is what its answers would earn, less ``beta`` times how far it went from the
    reference. Both are estimated from the responses to a question, which the reference wrote: with
    ``p = softmax(log policy / reference)`` over these, ``sum_i p_i (r_ij - min_i r_ij) + beta H(p)``. Volumes are taken
    from zero: what the worst response to each question earns, and nothing but it. The gradient of the volume is that of
    the values, each times the volume's slope in it (arXiv 2412.05469 has the idea; the estimate, the penalty and the
    reference point are this project's).

    No policy has weights of its own. This one answers as ``answers_with``, the others are policies of ``member``.
    """

    label: ClassVar[str] = "hypervolume maximisation"
    stage: ClassVar[str | None] = "conditioned"
    is_searched: ClassVar[bool] = False
    least_criteria: ClassVar[int] = 2
    all_responses: ClassVar[bool] = True
    gradients_apart: ClassVar[bool] = True

    method: Literal["ham"] = "ham"
    policies: int = Field(3, ge=2, description="that are trained together")
    answers_with: int = Field(1, ge=1, description="which of them, from 1, this policy answers as")

    @model_validator(mode="after")
    def _one_of_them(self) -> HaM:
        if self.answers_with > self.policies:
            raise ValueError(f"answers_with is {self.answers_with}, and there are {self.policies} policies")
        return self

    @property
    def margin_criteria(self) -> tuple[str, ...]:
        return tuple(self.criteria)

    @property
    def members(self) -> tuple[str, ...]:
        """The policies that are trained, by number."""
        return tuple(str(number) for number in range(1, self.policies + 1))

    @property
    def objectives(self) -> tuple[str, ...]:
        return tuple(f"{criterion} of {member}" for member in self.members for criterion in self.criteria)

    def attach(self, run: Run, model: Any, settings: Training, seed: int) -> Any:
        from modpo_hpc.alignment.conditioned import ConditionedModel, fresh_factors
        from modpo_hpc.seeds import seed_of

        seeds = [seed_of(seed, "member", number) for number in self.members]
        factors, config = fresh_factors(model, settings, run.study.models.base, seeds)
        return ConditionedModel(model, factors, config, settings.lora_dropout)

    def set_up(self, adapted: Any) -> None:
        self._answer_as(adapted, self.answers_with - 1)

    def set_up_objective(self, adapted: Any, place: int) -> None:
        self._answer_as(adapted, place // len(self.criteria))

    def _answer_as(self, adapted: Any, member: int) -> None:
        adapted.set_weights([float(number == member) for number in range(self.policies)])

    def adapters(self, adapted: Any, weights: Mapping[str, Tensor]) -> dict[str, Adapter]:
        from modpo_hpc.alignment.conditioned import left_by

        return left_by(adapted, weights, self.members, {str(self.answers_with): 1.0})

    def losses_apart(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Tensor]:
        import torch

        losses = -values_of(batch, logps, settings.beta).repeat(self.policies, 1)
        return losses, torch.ones_like(losses, dtype=torch.bool)

    def mixture(self, losses: Tensor, gram: Tensor, before: Tensor | None) -> Tensor:
        values = -losses.view(self.policies, len(self.criteria))
        return losses.new_tensor(volume_slopes(values.cpu().numpy()).ravel().tolist())

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        losses = -(logps.new_tensor(self.weights) @ values_of(batch, logps, settings.beta).to(logps))
        return losses, batch.implicit_rewards(logps, settings.beta)


def values_of(batch: Batch, logps: Tensor, beta: float) -> Tensor:
    """What answers earn above the worst response, and beta times their entropy, by criterion and question: (J, n)."""
    import torch

    questions, place = batch.chosen.shape[1], batch.example

    def over(scores: Tensor) -> Tensor:
        return scores.new_zeros(questions).index_add(0, place, scores)

    ratio = logps - batch.reference
    top = ratio.new_full((questions,), float("-inf")).scatter_reduce(0, place, ratio.detach(), "amax")
    shares = (ratio - top[place]).exp()
    total = over(shares)
    shares = shares / total[place]
    entropy = total.log() - over(shares * (ratio - top[place]))
    rewards = batch.rewards.to(logps)
    lowest = rewards.new_full((questions, rewards.shape[1]), float("inf"))
    lowest = lowest.scatter_reduce(0, place[:, None].expand_as(rewards), rewards, "amin")
    above = rewards - lowest[place]
    return torch.stack([over(shares * column) for column in above.T]) + beta * entropy


def volume_slopes(values: np.ndarray) -> np.ndarray:
    """How the hypervolume of ``values`` (K, J) above zero changes with each of them, (K, J).

    The slope in one coordinate is the area of the point's own facet: the volume, in the others, of the points that are
    as high in it, less that without the point. What others dominate would have none and never move: it is taken for
    itself, layer by layer, as in Deist et al. (2021). Zero for what is not above zero.
    """
    import numpy as np

    from modpo_hpc.evaluation.pareto import front, hypervolume

    slopes, left = np.zeros_like(values), np.flatnonzero((values > 0).all(axis=1))
    zero = np.zeros(values.shape[1] - 1)
    while len(left):
        layer = left[front(values[left])]
        for k in layer:
            for j in range(values.shape[1]):
                high = [other for other in layer if values[other, j] >= values[k, j]]
                rest = np.delete(values, j, axis=1)
                without = [other for other in high if other != k]
                slopes[k, j] = hypervolume(rest[high], zero) - hypervolume(rest[without], zero)
        left = np.setdiff1d(left, layer)
    return slopes


class Member(WorkedOut):
    """One of the policies that a ``ham`` policy trains: a plain adapter, worked out without training."""

    label: ClassVar[str] = "one policy of a hypervolume maximisation"

    method: Literal["member"] = "member"
    of: str = Field(description="the ham policy")
    number: int = Field(ge=1, description="which of its policies, from 1")

    def check(self, name: str, study: Study) -> None:
        known = self.source(name, study, HaM).policies
        if self.number > known:
            raise ValueError(f"alignment.policies.{name}.number is {self.number}, and {self.of} has {known}")

    def merged(self, folder_of: Mapping[str, Path]) -> Merged:
        return self.merged_at(folder_of, {str(self.number): 1.0}, {"number": self.number})
