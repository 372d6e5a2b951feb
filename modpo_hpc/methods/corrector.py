"""A corrector: a model that is given a draft of an answer and writes a better one, whoever wrote the draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from modpo_hpc.methods.method import Method, OnAllCriteria, check_criteria
from modpo_hpc.seeds import rng_of

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.examples import Example
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study import Study
    from modpo_hpc.study.alignment import Training


class Corrector(OnAllCriteria):
    """Trained by SFT to write, from a draft and a list of criteria, a response that the votes put above the draft.

    The idea is MetaAligner's (Yang et al. 2024, arXiv 2403.17141): ``-log p(better | question, draft, criteria)``, the
    criteria in words, so that others can be told later. Draft and better response are the base model's; for each
    example some of the criteria are drawn, and two responses of which one has more votes by each of them. A criterion
    is told or, with a weight of zero, is not; weights count for nothing else but the held-out accuracy. As a policy it
    corrects the answers of ``source``; those of others are policies of ``corrected``.
    """

    label: ClassVar[str] = "corrector of drafts"
    corrects: ClassVar[bool] = True

    method: Literal["corrector"] = "corrector"
    source: str = Field(description="policy whose answers are the drafts of this one's")
    drafts: int = Field(4, ge=1, description="examples made of the responses to one question, at most")

    @property
    def vote_criteria(self) -> tuple[str, ...]:
        return tuple(self.criteria)

    @property
    def drafts_of(self) -> str:
        return self.source

    @property
    def corrects_by(self) -> tuple[str, ...]:
        return tuple(criterion for criterion, weight in self.criteria.items() if weight)

    def check(self, name: str, study: Study) -> None:
        super().check(name, study)
        check_source(name, self.source, study)

    def prepare(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        """Up to ``drafts`` pairs of a better response and a draft of each question, with the criteria that say so."""
        return [made for example in examples for made in self._corrections(example, seed)]

    def training_view(self, example: Example) -> Example:
        return example.alone(0)

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        from modpo_hpc.alignment.losses import sft_loss

        by = batch.present.int().argmax(0)  # every pair of an example has the same chosen response
        chosen = batch.chosen.gather(0, by[None])[0]
        return sft_loss(logps[chosen], logps.new_tensor(batch.packed.lengths)[chosen])

    def _corrections(self, example: Example, seed: int) -> list[Example]:
        rng = rng_of(seed, "drafts", example.question_id)
        found: dict[tuple[int, int], Example] = {}
        for _ in range(self.drafts):
            told = self._drawn(rng)
            able = [
                (better, draft)
                for better, draft in permutations(range(len(example.votes)), 2)
                if all(example.votes[better][one] > example.votes[draft][one] for one in told)
                and (better, draft) not in found
            ]
            if able:
                pair = able[int(rng.integers(len(able)))]
                pairs = tuple((0, 1) if place in told else None for place in range(len(self.criteria)))
                found[pair] = replace(example.narrowed(pair), pairs=pairs)
        return list(found.values())

    def _drawn(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Places of some of the criteria, at least one."""
        able = [place for place, weight in enumerate(self.weights) if weight]
        count = 1 + int(rng.integers(len(able)))
        return tuple(sorted(int(one) for one in rng.choice(able, count, replace=False)))


class Corrected(Method):
    """The answers of ``source``, each corrected by the corrector ``by``. Nothing is trained."""

    label: ClassVar[str] = "answers of another policy, corrected"

    method: Literal["corrected"] = "corrected"
    by: str = Field(description="policy of method corrector")
    source: str = Field(description="policy whose answers are corrected")
    criteria: tuple[str, ...] = Field(
        min_length=1, description="what the corrector is told to be better by, also what it was not trained on"
    )

    @property
    def made_of(self) -> Mapping[str, float]:
        return {self.source: 1.0}

    @property
    def experts(self) -> Mapping[str, float]:
        return {self.by: 1.0}

    @property
    def drafts_of(self) -> str:
        return self.source

    @property
    def corrects_by(self) -> tuple[str, ...]:
        return self.criteria

    def check(self, name: str, study: Study) -> None:
        if not isinstance(study.alignment.policies.get(self.by), Corrector):
            raise ValueError(f"alignment.policies.{name}.by names {self.by!r}, which is no policy of method corrector")
        check_source(name, self.source, study)
        check_criteria(name, self.criteria, study)


def check_source(name: str, source: str, study: Study) -> None:
    """Raises ValueError where ``source`` is no policy whose answers the policy ``name`` can correct."""
    one = study.alignment.policies.get(source)
    if one is None or one.drafts_of or one.chosen_by:
        policies = study.alignment.policies.items()
        known = [other for other, policy in policies if not (policy.drafts_of or policy.chosen_by)]
        raise ValueError(
            f"alignment.policies.{name}.source is {source!r}; it must be a policy of this study that answers by itself "
            f"and does not choose among answers or correct them ({', '.join(known)})"
        )
