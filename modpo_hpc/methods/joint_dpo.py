"""Joint-Loss DPO: the pairs of all criteria inside one log-sigmoid."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from modpo_hpc.methods.method import OnAllCriteria

if TYPE_CHECKING:
    from torch import Tensor

    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study.alignment import Training


class JointDPO(OnAllCriteria):
    """Trained on the pairs of all its criteria at once; a question needs a pair of every one of them."""

    label: ClassVar[str] = "Joint-Loss DPO"
    least_criteria: ClassVar[int] = 2

    method: Literal["joint_dpo"] = "joint_dpo"

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        from modpo_hpc.alignment.losses import joint_dpo_loss

        h, weights = batch.log_ratios(logps), logps.new_tensor(self.weights)
        losses, metrics = joint_dpo_loss(h, weights, settings.beta)
        agreement = (weights / weights.sum()) @ (h.detach() > 0).float()
        return losses, {**metrics, "accuracy": agreement, "reward_margin": metrics["logit"]}
