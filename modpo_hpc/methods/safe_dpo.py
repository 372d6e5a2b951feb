"""SafeDPO: preferences by one criterion among responses that are safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from modpo_hpc.methods.method import Diagnosis, Trained

if TYPE_CHECKING:
    from torch import Tensor

    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.examples import Example
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study import Study
    from modpo_hpc.study.alignment import Training


class SafeDPO(Trained):
    """Trained on one criterion's pairs with safety as a constraint (Kim et al. 2025).

    A pair whose chosen response alone is unsafe is turned round, one of two unsafe responses is left out, and where
    only the rejected one is unsafe it is pushed ``offset`` further away: ``-log sigmoid(beta h - (u_l - u_w) offset)``,
    ``u`` being 1 for unsafe (arXiv 2505.20065, eq. 12 as a published implementation has it; offset is its Delta). The
    paper has labels of annotators. Here a response is unsafe where its mean rank under ``constraint`` is below
    ``unsafe_below``: with 0, where the personas rank it below the middle. So the label compares responses to one
    question; what is safe in itself no ranking says.
    """

    label: ClassVar[str] = "SafeDPO"
    figures_note: ClassVar[str] = "Unsafe rejected: share of the pairs that SafeDPO pushes further apart"

    method: Literal["safe_dpo"] = "safe_dpo"
    constraint: str = Field("safety", description="criterion by whose votes a response is safe or not")
    unsafe_below: float = Field(0.0, description="mean ranks above the middle, below which a response is unsafe")
    offset: float = Field(1.0, ge=0, description="how much further an unsafe rejected response is pushed, in beta h")

    @property
    def vote_criteria(self) -> tuple[str, ...]:
        return (self.constraint,)

    def check(self, name: str, study: Study) -> None:
        super().check(name, study)
        if self.constraint not in study.criteria.rank:
            raise ValueError(
                f"alignment.policies.{name}.constraint is {self.constraint!r}, which is not in criteria.rank "
                f"({', '.join(study.criteria.rank)})"
            )

    def prepare(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        return [safe for example in examples if (safe := self._constrained(example)) is not None]

    def _constrained(self, example: Example) -> Example | None:
        chosen_unsafe, rejected_unsafe = (example.votes[place][0] < self.unsafe_below for place in example.anchor)
        if chosen_unsafe and rejected_unsafe:
            return None
        return replace(example, pairs=(example.anchor[::-1],)) if chosen_unsafe else example

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        import torch.nn.functional as F

        from modpo_hpc.alignment.losses import log_ratio

        sums, unsafe = batch.anchor_sums(logps), (batch.votes[:, 0] < self.unsafe_below).to(logps)
        margin = self.offset * (unsafe[batch.rejected[0]] - unsafe[batch.chosen[0]])
        logits = settings.beta * log_ratio(*sums) - margin
        return -F.logsigmoid(logits), {"logit": logits.detach(), **batch.implicit_rewards(logps, settings.beta)}

    def diagnose(self, name: str, examples: Sequence[Example], settings: Training) -> Diagnosis:
        unsafe = sum(one.votes[one.anchor[1]][0] < self.unsafe_below for one in examples) / len(examples)
        return Diagnosis(
            {"unsafe_rejected": unsafe}, (f"{name}: of {len(examples)} pairs {unsafe:.0%} reject an unsafe response",)
        )

    def figures(self, summary: Mapping[str, Any]) -> dict[str, str]:
        return {"unsafe rejected": f"{summary['unsafe_rejected']:.0%}"}
