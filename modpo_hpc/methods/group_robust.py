"""Group-robust DPO: the group of personas that is served worst counts most."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from modpo_hpc.methods.method import Trained

if TYPE_CHECKING:
    from torch import Tensor

    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.examples import Example
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study.alignment import Training


class GroupRobustDPO(Trained):
    """Trained on each group's own pairs of one criterion, groups of larger loss counting more (Ramesh et al. 2024).

    The weights of the groups start equal and are multiplied by ``exp(step * loss)`` before each step, then normalised;
    the gradient is their weighted sum of the groups' mean DPO losses (arXiv 2405.20304, GR-DPO, as in the authors'
    code, whose means are those of a pass; here they are those of the global batch). The paper tells the model the group
    in the prompt; here one policy answers all, so the prompt says nothing of it. A group's pair is the best and the
    worst response by the votes of its training personas alone.
    """

    label: ClassVar[str] = "group-robust DPO"
    gradients_apart: ClassVar[bool] = True

    method: Literal["group_robust"] = "group_robust"
    attribute: Literal["population", "age_group", "gender", "primary_ethnicity"] = Field(
        "population", description="of the personas, whose values are the groups"
    )
    step: float = Field(0.1, gt=0, description="how fast the weights of the groups follow their losses")

    @property
    def group_attribute(self) -> str | None:
        return self.attribute

    @property
    def trainings(self) -> int:
        return 2  # a plan knows no personas; two groups are the fewest that make a difference

    def training_view(self, example: Example) -> Example:
        return example.with_criteria(len(example.pairs))

    def evaluation_view(self, example: Example) -> Example:
        return self.training_view(example)

    def losses_apart(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Tensor]:
        import torch.nn.functional as F

        return -F.logsigmoid(settings.beta * batch.log_ratios(logps)[1:]), batch.present[1:]

    def mixture(self, losses: Tensor, gram: Tensor, before: Tensor | None) -> Tensor:
        import torch

        weights = torch.full_like(losses, 1 / len(losses)) if before is None else before
        there = ~losses.isnan()
        raised = torch.where(there, weights * torch.exp(self.step * losses.nan_to_num()), 0.0)
        # a group without a pair in this batch keeps what it has
        share = weights[there].sum()
        return torch.where(there, raised * share / raised.sum(), weights) if bool(there.any()) else weights

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        each, there = self.losses_apart(batch, logps, settings)
        losses = (each * there).sum(0) / there.sum(0).clamp(min=1)
        return losses, batch.implicit_rewards(logps, settings.beta)
