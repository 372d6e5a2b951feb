"""Multi-Objective DPO: the pairs of one criterion, the rewards of the others as margins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from modpo_hpc.methods.method import Diagnosis, Method, Trained
from modpo_hpc.seeds import rng_of

if TYPE_CHECKING:
    from torch import Tensor

    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.examples import Example
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study.alignment import Training


class MODPO(Trained):
    """Trained on the pairs of the anchor, its first criterion; the others give margins (Zhou et al. 2024).

    Its placebos have the same weights and margins that say nothing: none at all, which is DPO at ``beta / w_0``, or
    those of another question. What MODPO has more than its placebo is what the margins did.
    """

    label: ClassVar[str] = "MODPO"
    least_criteria: ClassVar[int] = 2
    most_criteria: ClassVar[int | None] = None
    figures_note: ClassVar[str] = "Margins felt: spread of the weighted margins in the logit, MODPO only"

    method: Literal["modpo"] = "modpo"
    margins: Literal["rewards", "zero", "shuffled"] = Field(
        "rewards", description="of the rewards; the others make a placebo: none, or those of another question"
    )

    @model_validator(mode="after")
    def _anchored(self) -> MODPO:
        if self.weights[0] <= 0:
            raise ValueError("the anchor, the first criterion, needs a weight above zero")
        return self

    @property
    def margin_criteria(self) -> tuple[str, ...]:
        return () if self.margins == "zero" else tuple(self.criteria)[1:]

    @property
    def described(self) -> str:
        return self.label if self.margins == "rewards" else f"placebo of {self.label}, margins {self.margins}"

    def is_placebo_of(self, other: Method) -> bool:
        if not isinstance(other, MODPO) or self.margins == "rewards" or other.margins != "rewards":
            return False
        return list(self.criteria.items()) == list(other.criteria.items()) and self.training == other.training

    def prepare(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        if self.margins != "shuffled":
            return examples
        donors = rng_of(seed, "margins").permutation(len(examples))
        return [_with_margins_of(one, examples[donor]) for one, donor in zip(examples, donors, strict=True)]

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        from modpo_hpc.alignment.losses import modpo_loss

        if self.margins == "zero":
            nothing = logps.new_zeros(len(batch.chosen[0]), len(self.weights) - 1)
            margins = nothing, nothing
        else:
            margins = batch.rewards[batch.chosen[0]], batch.rewards[batch.rejected[0]]
        return modpo_loss(*batch.anchor_sums(logps), *margins, logps.new_tensor(self.weights), settings.beta)

    def diagnose(self, name: str, examples: Sequence[Example], settings: Training) -> Diagnosis:
        from modpo_hpc.alignment.margins import report_margins

        if self.margins == "zero":
            return Diagnosis()
        found = report_margins(examples, tuple(self.criteria), self.weights, settings.beta)
        parts = ", ".join(f"{criterion} {spread:.3g}" for criterion, spread in found.spread.items())
        line = (
            f"{name}: the margins move the logit by {found.total_spread:.3g} from pair to pair ({parts}); "
            f"to follow them h moves by {found.nats:.3g} nats; the loss of {found.flat:.0%} of the pairs starts flat"
        )
        return Diagnosis(
            {"margins": asdict(found)}, (line, *(f"{name}: warning: {warning}" for warning in found.warnings))
        )

    def figures(self, summary: Mapping[str, Any]) -> dict[str, str]:
        return {"margins felt": f"{summary['margins']['total_spread']:.2f}"} if summary.get("margins") else {}

    def findings(self, summary: Mapping[str, Any]) -> list[str]:
        return list(summary["margins"]["warnings"]) if summary.get("margins") else []


def _with_margins_of(example: Example, donor: Example) -> Example:
    """``example`` whose chosen and rejected response have the rewards of the donor's."""
    rewards = list(example.rewards)
    for place, source in zip(example.anchor, donor.anchor, strict=True):
        rewards[place] = donor.rewards[source]
    return replace(example, rewards=tuple(rewards))
