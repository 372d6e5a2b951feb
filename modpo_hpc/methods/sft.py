"""Supervised fine-tuning on the chosen responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from modpo_hpc.methods.method import Trained

if TYPE_CHECKING:
    from torch import Tensor

    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.examples import Example
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study.alignment import Training


class SFT(Trained):
    """Trained on the chosen response of each pair of one criterion; the rejected one is never computed."""

    label: ClassVar[str] = "supervised fine-tuning on chosen responses"

    method: Literal["sft"] = "sft"

    def training_view(self, example: Example) -> Example:
        return example.alone(example.anchor[0])

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        from modpo_hpc.alignment.losses import sft_loss

        chosen = batch.chosen[0]
        lengths = logps.new_tensor(batch.packed.lengths)
        return sft_loss(logps[chosen], lengths[chosen])
