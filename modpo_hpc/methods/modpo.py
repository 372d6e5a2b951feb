"""Multi-Objective DPO: the pairs of one criterion, the rewards of the others as margins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from modpo_hpc.methods.method import Diagnosis, Trained

if TYPE_CHECKING:
    from torch import Tensor

    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.examples import Example
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study.alignment import Training


class MODPO(Trained):
    """Trained on the pairs of the anchor, its first criterion; the others give margins (Zhou et al. 2024)."""

    label: ClassVar[str] = "MODPO"
    least_criteria: ClassVar[int] = 2
    most_criteria: ClassVar[int | None] = None
    figures_note: ClassVar[str] = "Margins felt: spread of the weighted margins in the logit, MODPO only"

    method: Literal["modpo"] = "modpo"

    @model_validator(mode="after")
    def _anchored(self) -> MODPO:
        if self.weights[0] <= 0:
            raise ValueError("the anchor, the first criterion, needs a weight above zero")
        return self

    @property
    def margin_criteria(self) -> tuple[str, ...]:
        return tuple(self.criteria)[1:]

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        from modpo_hpc.alignment.losses import modpo_loss

        margins = batch.rewards[batch.chosen[0]], batch.rewards[batch.rejected[0]]
        return modpo_loss(*batch.anchor_sums(logps), *margins, logps.new_tensor(self.weights), settings.beta)

    def diagnose(self, name: str, examples: Sequence[Example], settings: Training) -> Diagnosis:
        from modpo_hpc.alignment.margins import report_margins

        found = report_margins(examples, tuple(self.criteria), self.weights, settings.beta)
        parts = ", ".join(f"{criterion} {spread:.3g}" for criterion, spread in found.spread.items())
        line = (
            f"{name}: the margins move the logit by {found.total_spread:.3g} from pair to pair ({parts}); "
            f"to follow them h moves by {found.nats:.3g} nats"
        )
        return Diagnosis(
            {"margins": asdict(found)}, (line, *(f"{name}: warning: {warning}" for warning in found.warnings))
        )

    def figures(self, summary: Mapping[str, Any]) -> dict[str, str]:
        return {"margins felt": f"{summary['margins']['total_spread']:.2f}"}

    def findings(self, summary: Mapping[str, Any]) -> list[str]:
        return list(summary["margins"]["warnings"])
