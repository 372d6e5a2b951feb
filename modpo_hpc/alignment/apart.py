"""Gradients that are taken apart, one an objective, and put together by the rule of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from modpo_hpc.alignment.collator import Batch
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.methods import Trained

if TYPE_CHECKING:
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study.alignment import Training


@dataclass(frozen=True)
class Objective:
    """One objective of ``policy``: its loss where an example has it, 0 where not; ``there`` says which."""

    policy: Trained
    place: int

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        losses, there = (one[self.place] for one in self.policy.losses_apart(batch, logps, settings))
        metrics = self.policy.loss(batch, logps.detach(), settings)[1] if self.place == 0 else {}
        return losses * there, {"there": there.to(logps), **metrics}


def put_together(
    engine: PlainEngine,
    policy: Trained,
    objectives: Sequence[str],
    gradients: Sequence[Tensor],
    means: Sequence[dict[str, float]],
    before: Tensor | None,
) -> tuple[Tensor, dict[str, float]]:
    """The gradient of the step, in ``engine``; returns the mixture and the row of the log.

    Args:
        objectives: their names.
        gradients: of each objective's mean over the global batch, this process's part.
        means: what ``step_gradients`` says of each.
        before: the mixture of the last step.
    """
    counts = torch.tensor([one["there"] for one in means], dtype=torch.float64)
    losses = torch.tensor([one["loss"] for one in means], dtype=torch.float64) / counts  # 0/0: no example has it
    rows = engine.total(torch.stack(list(gradients))) / engine.layout.processes
    rows = rows * torch.where(counts > 0, 1 / counts, 0.0).to(rows)[:, None]
    mixture = engine.share(policy.mixture(losses, (rows @ rows.T).double().cpu(), before))
    engine.set_gradient(mixture.to(rows) @ rows)
    row = {name: value for name, value in means[0].items() if name != "there"}
    row["loss"] = float((mixture * losses.nan_to_num()).sum())
    for name, loss, weight in zip(objectives, losses.tolist(), mixture.tolist(), strict=True):
        row |= {f"mixture of {name}": weight, **({f"loss of {name}": loss} if loss == loss else {})}
    return mixture, row
