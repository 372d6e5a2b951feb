"""What a method is: a class whose instances are the policies of a study that are made by it.

All that the rest of the house must know of a method stands on its class, in one file: fields of the study file and
their checks, the data it needs, its loss, its diagnostics, and what the report says of it.
"""

from __future__ import annotations

import hashlib
import inspect
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from modpo_hpc.section import Section

if TYPE_CHECKING:
    from torch import Tensor

    from modpo_hpc.alignment.adapter import Adapter
    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.examples import Example
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.run import Run
    from modpo_hpc.study import Study
    from modpo_hpc.study.alignment import Training


@dataclass(frozen=True)
class Merged:
    """An adapter that is worked out from others, as PEFT stores it, and ``facts`` for its summary."""

    weights: Mapping[str, Tensor]
    config: Mapping[str, Any]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Diagnosis:
    """What a method finds in its training data: ``figures`` for the policy's summary, ``lines`` for the log."""

    figures: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


class Method(Section):
    """One policy of the study; which further fields it has is up to its method.

    Attributes:
        label: the method in the report, a noun phrase.
        stage: the stage that makes an adapter for each of its policies; None where there is no adapter.
        is_baseline: the model that all policies start from, unchanged.
        is_remote: the answers come from an endpoint of the study.
        sources_stage: the stage that makes the adapters of the policies that it rests on.
    """

    method: str = Field(description="one of those below, or one from outside the package")

    label: ClassVar[str]
    stage: ClassVar[str | None] = None
    is_baseline: ClassVar[bool] = False
    is_remote: ClassVar[bool] = False
    sources_stage: ClassVar[str] = "policies"

    @property
    def file_sha256(self) -> str:
        """Hash of the file in which the method stands: another file is another method."""
        return hashlib.sha256(Path(inspect.getfile(type(self))).read_bytes()).hexdigest()

    @property
    def described(self) -> str:
        """What the policy is, for the report: its method, and what it has of its own."""
        return self.label

    @property
    def made_of(self) -> Mapping[str, float]:
        """Weights of the criteria or policies that the policy is made of, as the report lists them."""
        return {}

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The policies whose adapters this one begins with or is worked out from."""
        return ()

    def merged(self, folder_of: Mapping[str, Path]) -> Merged:
        """Of a policy of the stage ``soups``: its adapter, from the folders of the policies that it rests on."""
        raise NotImplementedError

    @property
    def experts(self) -> Mapping[str, float]:
        """Policies whose models answer for this one, with the powers of their product; empty: its own answers."""
        return {}

    @property
    def answers_a_question(self) -> int:
        """How many answers it makes to a question; of several it gives the best by ``chosen_by``."""
        return 1

    @property
    def chosen_by(self) -> Mapping[str, float]:
        """Criteria, with weights, by whose rewards it chooses among its answers."""
        return {}

    @property
    def drafts_of(self) -> str | None:
        """The policy whose answers it is given as drafts, to write better ones; None: it is asked the question."""
        return None

    @property
    def corrects_by(self) -> tuple[str, ...]:
        """Criteria that it is told to be better by than a draft."""
        return ()

    def is_placebo_of(self, other: Method) -> bool:
        """Whether this policy is made as ``other`` is, without the part that is to show what it does."""
        return False

    def check(self, name: str, study: Study) -> None:
        """What only the whole study can tell of the policy ``name``. Raises ValueError."""


class Trained(Method):
    """A policy whose adapter is trained, by :meth:`loss`, on the preference pairs of its criteria.

    Attributes:
        least_criteria, most_criteria: how many criteria it takes; None: any number.
        gradients_apart: its gradients are taken one an objective (:meth:`losses_apart`) and put together by
            :meth:`mixture`; each objective costs the passes of a training of its own. Not under DeepSpeed.
        all_responses: the loss takes every response to a question, not those of the pairs alone.
        corrects: an example is a draft to be corrected: its prompt names the second response of the example, and the
            criteria that have a pair.
        figures_note: what the columns of :meth:`figures` are, for the caption of the report's table.
        is_searched: whether ``alignment.search`` looks for its settings.
    """

    stage: ClassVar[str | None] = "policies"
    least_criteria: ClassVar[int] = 1
    most_criteria: ClassVar[int | None] = 1
    all_responses: ClassVar[bool] = False
    corrects: ClassVar[bool] = False
    gradients_apart: ClassVar[bool] = False
    figures_note: ClassVar[str] = ""
    is_searched: ClassVar[bool] = True

    criteria: dict[str, float] = Field(description="criterion -> weight, used as given; the anchor first")
    training: dict[str, object] = Field(default_factory=dict, description="overrides of the study's training")

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the criteria, the anchor's first."""
        return tuple(self.criteria.values())

    @property
    def made_of(self) -> Mapping[str, float]:
        return self.criteria

    @property
    def paired_criteria(self) -> int:
        """The first so many criteria must have a preference pair for a question to be trained on."""
        return 1

    @property
    def margin_criteria(self) -> tuple[str, ...]:
        """Criteria whose rewards, on the study's scale, the loss takes as margins (``Batch.rewards``)."""
        return ()

    @property
    def vote_criteria(self) -> tuple[str, ...]:
        """Criteria whose votes for each response the loss takes (``Batch.votes``)."""
        return ()

    @property
    def group_attribute(self) -> str | None:
        """Attribute of the personas whose groups' own pairs of the first criterion follow those of the criteria."""
        return None

    def training_view(self, example: Example) -> Example:
        """The part of ``example`` that the loss is taken over: nothing else of it is computed in training."""
        return example if self.all_responses else example.with_criteria(self.paired_criteria)

    def evaluation_view(self, example: Example) -> Example:
        """The part of a held-out ``example`` that is computed: it holds the pair of every criterion."""
        return example if self.all_responses else example.with_criteria(len(self.criteria))

    def prepare(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        """The whole examples as this policy is trained and measured on them; it may leave some out."""
        return examples

    def attach(self, run: Run, model: Any, settings: Training, seed: int) -> Any:
        """``model`` with the adapter that is to be trained; as yet the model answers as before."""
        from modpo_hpc.alignment.adapter import attach_adapter

        return attach_adapter(model, settings, run.study.models.base, seed)

    def in_step(self, seed: int, number: int) -> Trained:
        """The policy as step ``number`` trains it, for methods that draw something anew for each step."""
        return self

    def set_up(self, adapted: Any) -> None:
        """Before a forward pass of training or evaluation: tell the ``adapted`` model what it depends on."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """With ``gradients_apart``: their names; none: the groups, or the criteria."""
        return ()

    @property
    def trainings(self) -> int:
        """As long as how many trainings of DPO one takes: with gradients apart, one an objective."""
        return len(self.objectives or self.criteria) if self.gradients_apart else 1

    def set_up_objective(self, adapted: Any, place: int) -> None:
        """With ``gradients_apart``: before the passes of one objective, as :meth:`set_up` is before others."""

    def adapters(self, adapted: Any, weights: Mapping[str, Tensor]) -> dict[str, Adapter]:
        """What training leaves, by the folder that it goes to: ``adapter`` is what the policy answers with."""
        from modpo_hpc.alignment.adapter import adapter_config

        return {"adapter": (weights, adapter_config(adapted))}

    @abstractmethod
    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        """Loss and metrics of each of n examples, (n,), from the policy's log-probs of R responses, (R,) fp32."""

    def losses_apart(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Tensor]:
        """With ``gradients_apart``: losses of K objectives, (K, n), and which of them an example has, (K, n)."""
        raise NotImplementedError

    def mixture(self, losses: Tensor, gram: Tensor, before: Tensor | None) -> Tensor:
        """With ``gradients_apart``: how much the gradient of each objective counts in a step, (K,) float64.

        Args:
            losses: (K,) means over the global batch; NaN where no example of it has the objective.
            gram: (K, K) inner products of the gradients of these means.
            before: the mixture of the step before; None at the first.
        """
        raise NotImplementedError

    def diagnose(self, name: str, examples: Sequence[Example], settings: Training) -> Diagnosis:
        """What is to be said of the training data (whole examples, with reference) before training starts."""
        return Diagnosis()

    def figures(self, summary: Mapping[str, Any]) -> dict[str, str]:
        """Columns of its own in the report's table of trainings, from the policy's ``summary.json``."""
        return {}

    def findings(self, summary: Mapping[str, Any]) -> list[str]:
        """Sentences of the report on one training."""
        return []

    def check(self, name: str, study: Study) -> None:
        check_criteria(name, self.criteria, study)
        if self.gradients_apart and study.alignment.training_of(name).deepspeed is not None:
            raise ValueError(
                f"policy {name}: method {self.method} takes the gradients of its objectives apart, which DeepSpeed "
                "does not do; leave training.deepspeed empty for it"
            )

    @model_validator(mode="after")
    def _fitting_criteria(self) -> Trained:
        count, least, most = len(self.criteria), self.least_criteria, self.most_criteria
        if count < least or (most is not None and count > most):
            wanted = {1: "exactly one criterion" if most == 1 else "at least one criterion", 2: "at least two criteria"}
            raise ValueError(
                f"method {self.method} takes {wanted.get(least, f'at least {least} criteria')}, here are {count}"
            )
        if any(weight < 0 for weight in self.weights):
            raise ValueError("weights are zero or more")
        return self


class OnAllCriteria(Trained):
    """A method whose loss takes the pairs of all its criteria at once: a question needs one of every criterion."""

    most_criteria: ClassVar[int | None] = None

    @property
    def paired_criteria(self) -> int:
        return len(self.criteria)

    @model_validator(mode="after")
    def _something_to_learn(self) -> OnAllCriteria:
        if not any(self.weights):
            raise ValueError("at least one criterion needs a weight above zero")
        return self


def check_criteria(name: str, criteria: Iterable[str], study: Study) -> None:
    """Raises ValueError where the policy ``name`` has a criterion by which nobody ranks."""
    for criterion in criteria:
        if criterion not in study.criteria.rank:
            raise ValueError(
                f"alignment.policies.{name}.criteria names {criterion!r}, which is not in criteria.rank "
                f"({', '.join(study.criteria.rank)})"
            )
