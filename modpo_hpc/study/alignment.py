"""Section of the study on the policies to train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from modpo_hpc.methods import Method, Trained, known_methods
from modpo_hpc.section import ConfigurationFile, InputPath, Section
from modpo_hpc.study.sweep import Sweep, expanded


class Training(Section):
    """Settings of one training run; a policy may override any of them."""

    learning_rate: float = Field(5e-5, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="of the learning rate after warmup")
    epochs: int = Field(1, ge=1)
    batch_size: int = Field(16, ge=1, description="pairs a step, over all processes")
    micro_batch_size: int = Field(8, ge=1, description="pairs a forward pass of one process, at most")
    pass_tokens: int | None = Field(
        None, ge=8, description="tokens a forward pass, at most, prompts once; empty: no limit. One pair may have more"
    )
    beta: float = Field(0.1, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="dpo only: share of preferences taken to be wrong")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: int = Field(
        1024, ge=8, description="tokens of prompt and response; longer pairs are dropped and listed"
    )
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    held_out: float = Field(0.1, ge=0, lt=1, description="share of questions held out for evaluation")
    evaluations: int = Field(1, ge=1, description="evaluations on held-out questions, an epoch")
    patience: int | None = Field(
        None, ge=1, description="evaluations without a better held-out loss that end training; empty: never"
    )
    gradient_cosine: bool = Field(False, description="measure the cosine between the criteria's gradients at the end")
    gradient_checkpointing: bool = False
    checkpoint_seconds: float = Field(120, ge=0, description="least time between two checkpoints of a training")
    deepspeed: ConfigurationFile | None = Field(
        None, description="DeepSpeed configuration, a file; if empty every process holds the whole model"
    )
    processes: int | None = Field(
        None, ge=1, description="that train together on a machine; one a GPU if empty, one without GPUs"
    )
    track: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        (), description="write the log for these, too, below the run's logs; extras of the same names; wandb is offline"
    )

    @model_validator(mode="after")
    def _measurable(self) -> Training:
        if self.gradient_cosine and (self.deepspeed is not None or (self.processes or 1) > 1):
            raise ValueError("gradient_cosine is measured in one process; leave deepspeed and processes empty for it")
        if self.gradient_cosine and self.held_out == 0:
            raise ValueError("gradient_cosine is measured on held-out questions; set held_out above zero")
        return self


class PolicySearch(Section):
    """Search of the settings of every trained policy: ``(low, high)`` ranges and lists of choices."""

    trials: int = Field(0, ge=0, description="of each policy; with 0 the settings of the study are used")
    startup: int = Field(8, ge=1, description="trials drawn at random before the search learns from results")
    wave: int = Field(4, ge=1, description="later trials that are drawn without seeing one another's results")
    prune_after: int | None = Field(
        1, ge=0, description="evaluations before the median rule may stop a trial; empty: never"
    )
    retries: int = Field(2, ge=0, description="how often other workers take up a trial whose worker died")
    learning_rate: tuple[float, float] = (1e-6, 1e-4)
    beta: tuple[float, float] = (0.01, 0.5)
    lora_rank: tuple[int, ...] = Field((16, 32, 64), min_length=1)
    lora_alpha: tuple[int, ...] = Field((16, 32, 64, 128), min_length=1)
    lora_dropout: tuple[float, float] = (0.0, 0.1)
    micro_batch_size: tuple[int, ...] = Field((4, 8), min_length=1, description="pairs a forward pass")
    gradient_accumulation: tuple[int, ...] = Field((1, 2, 4), min_length=1, description="forward passes a step")
    epochs: tuple[int, int] = (1, 3)

    @model_validator(mode="after")
    def _ranges(self) -> PolicySearch:
        for name in ("learning_rate", "beta", "lora_dropout", "epochs"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} goes from {low} to {high}; the lower end comes first")
        if self.learning_rate[0] <= 0 or self.beta[0] <= 0:
            raise ValueError("learning_rate and beta are searched on a log scale and must be above zero")
        return self


class Alignment(Section):
    """All policies of the study, by name, and the settings that they share."""

    training: Training = Training()
    search: PolicySearch = PolicySearch()
    methods: tuple[InputPath, ...] = Field((), description="Python files that bring methods from outside the package")
    sweep: tuple[Sweep, ...] | None = Field(None, description="families of policies over a grid of weights")
    reference_point: dict[str, float] | None = Field(
        None, description="criterion -> reward that hypervolumes are measured from; that of the base policy if empty"
    )
    policies: dict[str, SerializeAsAny[Method]] = Field(min_length=2)

    @property
    def trained(self) -> dict[str, Trained]:
        """The policies that are trained, by name."""
        return {name: policy for name, policy in self.policies.items() if isinstance(policy, Trained)}

    def trained_policy(self, name: str) -> Trained:
        """The policy ``name``, which is trained. Raises KeyError: it is not, or there is none."""
        policy = self.policies[name]
        if not isinstance(policy, Trained):
            raise KeyError(name)
        return policy

    def training_of(self, policy: str, **overrides: Any) -> Training:
        """The settings of the trained ``policy``: the shared ones, its own overrides, then ``overrides``."""
        own = self.trained_policy(policy).training
        return Training.model_validate({**self.training.model_dump(), **own, **overrides})

    @model_validator(mode="before")
    @classmethod
    def _families_written_out(cls, raw: Any) -> Any:
        try:
            return expanded(raw) if isinstance(raw, Mapping) and raw.get("sweep") else raw
        except ValidationError:
            return raw  # the field itself says what is wrong

    @model_validator(mode="after")
    def _families_have_names(self) -> Alignment:
        names = [sweep.name for sweep in self.sweep or ()]
        for name in names:
            if names.count(name) > 1 or name in self.policies:
                raise ValueError(f"sweep: {name} is the name of a policy or of another sweep, too; rename one")
        return self

    @field_validator("policies", mode="before")
    @classmethod
    def _by_their_methods(cls, raw: Any, info: ValidationInfo) -> Any:
        if not isinstance(raw, Mapping) or "methods" not in info.data:
            return raw
        known = known_methods(info.data["methods"])
        policies: dict[str, Any] = {}
        wrong: list[InitErrorDetails] = []
        for name, policy in raw.items():
            try:
                policies[name] = policy if isinstance(policy, Method) else _policy(policy, known)
            except ValidationError as error:
                wrong += [_placed(str(name), one) for one in error.errors()]
            except ValueError as error:
                problem = PydanticCustomError("method", "{problem}", {"problem": str(error)})
                wrong.append(InitErrorDetails(type=problem, loc=(name,), input=policy))
        if wrong:
            raise ValidationError.from_exception_data("policies", wrong)
        return policies

    @model_validator(mode="after")
    def _overrides_are_settings(self) -> Alignment:
        for name in self.trained:
            try:
                self.training_of(name)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(str(part) for part in first["loc"])
                raise ValueError(
                    f"policies.{name}.training.{field}: {first['msg'].removeprefix('Value error, ')}"
                ) from None
        return self


def _policy(raw: Any, known: Mapping[str, type[Method]]) -> Method:
    """The policy in ``raw``. Raises ValueError: its method is none of ``known``, or has no such field."""
    if not isinstance(raw, Mapping) or "method" not in raw:
        raise ValueError(f"a policy is a section with a method, one of {', '.join(known)}")
    method = known.get(raw["method"])
    if method is None:
        raise ValueError(f"there is no method {raw['method']!r}; methods are: {', '.join(known)}")
    if odd := [str(field) for field in raw if field not in method.model_fields]:
        fields = [field for field in method.model_fields if field != "method"]
        raise ValueError(f"method {raw['method']} has no field {odd[0]!r}; it has {', '.join(fields) or 'none'}")
    return method.model_validate(raw)


def _placed(name: str, error: Any) -> InitErrorDetails:
    """``error`` in the section of policy ``name``."""
    problem = PydanticCustomError("policy", "{problem}", {"problem": error["msg"].removeprefix("Value error, ")})
    return InitErrorDetails(type=problem, loc=(name, *error["loc"]), input=error["input"])
