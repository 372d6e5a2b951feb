"""Batches of examples as tensors: what the loss of every method is taken from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.losses import Metrics, implicit_rewards, log_ratio
from modpo_hpc.alignment.trees import PackedTrees, pack


@dataclass(frozen=True)
class Batch:
    """n examples with R responses and C criteria, as tensors.

    Attributes:
        packed: the trees.
        chosen, rejected: (C, n) places among the R responses.
        present: (C, n) whether the criterion has a pair; places of absent pairs are 0.
        reference: (R,) reference log-probs.
        rewards: (R, K-1) rewards of the margin criteria.
        votes: (R, V) votes under the criteria that the loss takes votes of.
        example: (R,) which of the n examples a response belongs to.
    """

    packed: PackedTrees
    chosen: Tensor
    rejected: Tensor
    present: Tensor
    reference: Tensor
    rewards: Tensor
    votes: Tensor
    example: Tensor

    def log_ratios(self, logps: Tensor) -> Tensor:
        """``h`` of every criterion's pair from the policy's log-probs (R,): (C, n), see ``losses.log_ratio``."""
        chosen, rejected = self.chosen, self.rejected
        return log_ratio(logps[chosen], logps[rejected], self.reference[chosen], self.reference[rejected])

    def anchor_sums(self, logps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-probs of the first criterion's pairs: the policy's chosen and rejected, the reference's; each (n,)."""
        chosen, rejected = self.chosen[0], self.rejected[0]
        return logps[chosen], logps[rejected], self.reference[chosen], self.reference[rejected]

    def implicit_rewards(self, logps: Tensor, beta: float) -> Metrics:
        """Those of the first criterion's pairs, see ``losses.implicit_rewards``."""
        return implicit_rewards(*self.anchor_sums(logps), beta)


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
        votes=torch.tensor([row for example in examples for row in example.votes], device=device),
        example=torch.tensor([n for n, one in enumerate(examples) for _ in one.tree.responses], device=device),
    )
