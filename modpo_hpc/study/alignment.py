"""Section of the study on the policies to train."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from modpo_hpc.study.section import Section


class Training(Section):
    """Settings of one training run; a policy may override any of them."""

    learning_rate: float = Field(5e-5, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="of the learning rate after warmup")
    epochs: int = Field(1, ge=1)
    batch_size: int = Field(16, ge=1, description="pairs a step, over all processes")
    micro_batch_size: int = Field(8, ge=1, description="pairs a forward pass of one process")
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
    early_stopping: int = Field(
        0, ge=0, description="evaluations without a better held-out loss that end training; 0: never"
    )
    gradient_cosine: bool = Field(False, description="measure the cosine between the criteria's gradients at the end")
    gradient_checkpointing: bool = False
    checkpoint_steps: int = Field(50, ge=1)
    deepspeed: str | None = Field(None, description="DeepSpeed configuration, a file; plain PyTorch if empty")
    processes: int | None = Field(None, ge=1, description="with DeepSpeed; one a GPU if empty, one without GPUs")
    track: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        (), description="write the log for these, too, below the run's logs; extras of the same names; wandb is offline"
    )

    @model_validator(mode="after")
    def _processes_need_deepspeed(self) -> Training:
        if self.processes and self.processes > 1 and self.deepspeed is None:
            raise ValueError("several processes train under DeepSpeed only; name a configuration in deepspeed")
        if self.gradient_cosine and self.deepspeed is not None:
            raise ValueError("gradient_cosine is measured in one process; leave deepspeed empty for it")
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
    accumulation: tuple[int, ...] = Field((1, 2, 4), min_length=1, description="forward passes a step")
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


class Policy(Section):
    """One aligned policy.

    ``criteria`` gives the weights: the anchor first, then the margin criteria. Weights are used as given.
    """

    method: Literal["base", "sft", "dpo", "modpo", "joint_dpo", "soup", "remote"]
    criteria: dict[str, float] = Field(default_factory=dict, description="criterion -> weight, the anchor first")
    sources: dict[str, float] = Field(default_factory=dict, description="soup only: policy -> weight")
    merge: Literal["exact", "svd", "paper"] = Field(
        "exact",
        description="soup only: the weighted sum of updates, its best approximation of svd_rank, or averaged factors",
    )
    svd_rank: int | None = Field(None, ge=1, description="merge svd only; the largest rank of the sources if empty")
    training: dict[str, object] = Field(default_factory=dict, description="overrides of the study's training")

    @model_validator(mode="after")
    def _complete(self) -> Policy:
        count = len(self.criteria)
        if self.method in ("sft", "dpo") and count != 1:
            raise ValueError(f"method {self.method} takes exactly one criterion, here are {count}")
        if self.method in ("modpo", "joint_dpo") and count < 2:
            raise ValueError(f"method {self.method} takes at least two criteria, here are {count}")
        if self.method == "soup" and len(self.sources) < 2:
            raise ValueError("method soup takes at least two sources (policy -> weight)")
        if self.sources and self.method != "soup":
            raise ValueError(f"sources are for method soup only, not for {self.method}")
        if any(weight < 0 for weight in (*self.criteria.values(), *self.sources.values())):
            raise ValueError("weights are zero or more")
        if self.method == "modpo" and next(iter(self.criteria.values())) <= 0:
            raise ValueError("the anchor, the first criterion, needs a weight above zero")
        if self.method == "joint_dpo" and not any(self.criteria.values()):
            raise ValueError("at least one criterion needs a weight above zero")
        return self


class Alignment(Section):
    """All policies of the study, by name, and the settings that they share."""

    training: Training = Training()
    search: PolicySearch = PolicySearch()
    policies: dict[str, Policy] = Field(min_length=2)

    def training_of(self, policy: str, **overrides: Any) -> Training:
        """The settings of ``policy``: the shared ones, its own overrides, then ``overrides``."""
        own = self.policies[policy].training
        return Training.model_validate({**self.training.model_dump(), **own, **overrides})

    @model_validator(mode="after")
    def _overrides_are_settings(self) -> Alignment:
        for name in self.policies:
            try:
                self.training_of(name)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(str(part) for part in first["loc"])
                raise ValueError(
                    f"policies.{name}.training.{field}: {first['msg'].removeprefix('Value error, ')}"
                ) from None
        return self
