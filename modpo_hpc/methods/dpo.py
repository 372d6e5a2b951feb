"""Direct Preference Optimization."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from modpo_hpc.methods.method import Trained

if TYPE_CHECKING:
    from torch import Tensor

    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study.alignment import Training


class DPO(Trained):
    """Trained to prefer the chosen over the rejected response of one criterion (Rafailov et al. 2023)."""

    label: ClassVar[str] = "DPO"

    method: Literal["dpo"] = "dpo"

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        from modpo_hpc.alignment.losses import dpo_loss

        return dpo_loss(*batch.anchor_sums(logps), settings.beta, settings.label_smoothing)
