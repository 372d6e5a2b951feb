"""RACO: the gradients of the criteria, put together so that conflict hurts none beyond its weight."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from modpo_hpc.methods.method import OnAllCriteria

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study.alignment import Training

_TINY = 1e-12


class RACO(OnAllCriteria):
    """Trained by a DPO loss for each criterion and conflict-averse gradients with clipped weights (Chen et al. 2026).

    With the criteria's gradients ``g_k`` and weights ``w``, ``g_0 = sum_k w_k g_k``: ``p`` minimises
    ``G_p . g_0 + radius |g_0| |G_p|`` on the simplex, ``G_p = sum_k p_k g_k`` (CAGrad, Liu et al. 2021); each ``p_k``
    is clipped to ``w_k``; the step is ``g_0 + radius |g_0| G_p / |G_p|`` (arXiv 2602.02495). The formula is from a
    published reading of the paper and agrees with the authors' code, whose radius is the default. Their code solves
    for two or three criteria in closed form; here any number is solved numerically. AdamW takes the step, while the
    paper's theory is of plain gradient descent.
    """

    label: ClassVar[str] = "RACO"
    least_criteria: ClassVar[int] = 2
    gradients_apart: ClassVar[bool] = True

    method: Literal["raco"] = "raco"
    radius: float = Field(0.4, ge=0, lt=1, description="of the correction, as a share of the weighted gradient")
    clip: bool = Field(True, description="no criterion counts more in the correction than its weight; else CAGrad")

    @model_validator(mode="after")
    def _on_the_simplex(self) -> RACO:
        if not math.isclose(sum(self.weights), 1, abs_tol=1e-6):
            raise ValueError(f"weights of method raco sum to one, here to {sum(self.weights):g}")
        return self

    def losses_apart(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Tensor]:
        import torch.nn.functional as F

        return -F.logsigmoid(settings.beta * batch.log_ratios(logps)), batch.present

    def mixture(self, losses: Tensor, gram: Tensor, before: Tensor | None) -> Tensor:
        import numpy as np

        found = conflict_averse(gram.cpu().numpy(), np.array(self.weights), self.radius, self.clip)
        return gram.new_tensor(found.tolist())

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        each, there = self.losses_apart(batch, logps, settings)
        losses = logps.new_tensor(self.weights) @ (each * there).to(logps)
        return losses, batch.implicit_rewards(logps, settings.beta)


def conflict_averse(gram: np.ndarray, weights: np.ndarray, radius: float, clip: bool) -> np.ndarray:
    """How much each gradient counts in RACO's step, (K,).

    Args:
        gram: (K, K) inner products of the gradients.
        weights: (K,) on the simplex.
        radius: of the correction; 0 gives ``weights``.
        clip: whether the coefficients of the correction are clipped to ``weights``.
    """
    import numpy as np
    from scipy.optimize import LinearConstraint, minimize

    scale = float(np.trace(gram))
    if scale <= 0 or radius == 0:
        return weights
    gram = gram / scale
    size = math.sqrt(max(0.0, float(weights @ gram @ weights)))

    def value(p: np.ndarray) -> float:
        return float(p @ gram @ weights + radius * size * math.sqrt(max(_TINY, float(p @ gram @ p))))

    def slope(p: np.ndarray) -> np.ndarray:
        norm = math.sqrt(max(_TINY, float(p @ gram @ p)))
        return np.asarray(gram @ weights + radius * size * (gram @ p) / norm)

    on_simplex = LinearConstraint(np.ones((1, len(weights))), 1, 1)
    starts = (weights, *np.eye(len(weights)))  # the objective is convex, but not smooth where the gradients cancel
    found = [
        minimize(
            value, start, jac=slope, bounds=[(0.0, 1.0)] * len(weights), constraints=on_simplex, method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 200},
        )
        for start in starts
    ]  # fmt: skip
    best = min(found, key=lambda one: float(one.fun)).x.clip(0, 1)
    mixed = np.minimum(best, weights) if clip else best
    norm = math.sqrt(max(0.0, float(mixed @ gram @ mixed)))
    return weights + radius * size / norm * mixed if norm > math.sqrt(_TINY) else weights
