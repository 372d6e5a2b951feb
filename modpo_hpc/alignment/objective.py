"""From the log-probs of a batch of trees to the loss of a method, and to what is measured on held-out questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.losses import Metrics, dpo_loss, joint_dpo_loss, log_ratio, modpo_loss, sft_loss
from modpo_hpc.alignment.trees import Packed, pack

Method = Literal["sft", "dpo", "modpo", "joint_dpo"]


@dataclass(frozen=True)
class Batch:
    """n examples with R responses and C criteria, as tensors.

    Attributes:
        packed: the trees.
        chosen, rejected: (C, n) places among the R responses.
        present: (C, n) whether the criterion has a pair; places of absent pairs are 0.
        reference: (R,) reference log-probs.
        rewards: (R, K-1) rewards of the margin criteria.
    """

    packed: Packed
    chosen: Tensor
    rejected: Tensor
    present: Tensor
    reference: Tensor
    rewards: Tensor


def collate(examples: Sequence[Example], device: torch.device | str = "cpu") -> Batch:
    """The tensors of ``examples``, all with the same number of criteria."""
    chosen, rejected, present = [], [], []
    offset = 0
    for example in examples:
        chosen.append([offset + pair[0] if pair else 0 for pair in example.pairs])
        rejected.append([offset + pair[1] if pair else 0 for pair in example.pairs])
        present.append([pair is not None for pair in example.pairs])
        offset += len(example.tree.responses)
    return Batch(
        packed=pack([example.tree for example in examples], device),
        chosen=torch.tensor(chosen, device=device).T,
        rejected=torch.tensor(rejected, device=device).T,
        present=torch.tensor(present, device=device).T,
        reference=torch.tensor([one for example in examples for one in example.reference], device=device),
        rewards=torch.tensor([row for example in examples for row in example.rewards], device=device),
    )


@dataclass(frozen=True)
class Objective:
    """A method with its weights (the anchor's first, used as given) and strength."""

    method: Method
    weights: tuple[float, ...]
    beta: float
    label_smoothing: float = 0.0

    @property
    def trained_criteria(self) -> int:
        """How many criteria need a pair in training; margin criteria need rewards instead."""
        return len(self.weights) if self.method == "joint_dpo" else 1

    def training_view(self, example: Example) -> Example:
        """The part of ``example`` that the loss is taken over."""
        if self.method == "sft":
            return example.chosen_only()
        return example.with_criteria(self.trained_criteria)

    def loss(self, batch: Batch, logps: Tensor) -> tuple[Tensor, Metrics]:
        """Loss and metrics of each example, (n,), from the policy's log-probs (R,)."""
        if self.method == "sft":
            lengths = torch.tensor(batch.packed.lengths, device=logps.device, dtype=logps.dtype)
            return sft_loss(logps[batch.chosen[0]], lengths[batch.chosen[0]])
        weights = torch.tensor(self.weights, device=logps.device, dtype=logps.dtype)
        if self.method == "joint_dpo":
            h = _h(batch, logps)
            losses, metrics = joint_dpo_loss(h, weights, self.beta)
            agreement = (weights / weights.sum()) @ (h.detach() > 0).float()
            return losses, {**metrics, "accuracy": agreement, "reward_margin": metrics["logit"]}
        chosen, rejected = batch.chosen[0], batch.rejected[0]
        sums = logps[chosen], logps[rejected], batch.reference[chosen], batch.reference[rejected]
        if self.method == "dpo":
            return dpo_loss(*sums, self.beta, self.label_smoothing)
        return modpo_loss(*sums, batch.rewards[chosen], batch.rewards[rejected], weights, self.beta)

    def criterion_metrics(self, batch: Batch, logps: Tensor) -> tuple[Tensor, Tensor]:
        """``beta * h`` of every criterion's pair, (C, n), and whether there is one, (C, n)."""
        return self.beta * _h(batch, logps).detach(), batch.present


def _h(batch: Batch, logps: Tensor) -> Tensor:
    chosen, rejected = batch.chosen, batch.rejected
    return log_ratio(logps[chosen], logps[rejected], batch.reference[chosen], batch.reference[rejected])
