"""Section of the study on the policies to train."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modpo_hpc.study.section import Section


class Training(Section):
    """Settings of one training run; a policy may override any of them."""

    learning_rate: float = Field(5e-5, gt=0)
    epochs: int = Field(1, ge=1)
    batch_size: int = Field(16, ge=1, description="pairs a step, over all processes")
    micro_batch_size: int = Field(8, ge=1, description="pairs a forward pass of one process")
    beta: float = Field(0.1, gt=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: int = Field(1024, ge=8, description="tokens of prompt and response")
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    lora_targets: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    held_out: float = Field(0.1, ge=0, lt=1, description="share of questions held out for evaluation")
    checkpoint_steps: int = Field(50, ge=1)
    deepspeed: str | None = Field(None, description="DeepSpeed configuration, a file; plain PyTorch if empty")


class Policy(Section):
    """One aligned policy.

    ``criteria`` gives the weights: the anchor first, then the margin criteria. Weights are used as given.
    """

    method: Literal["base", "sft", "dpo", "modpo", "joint_dpo", "soup", "remote"]
    criteria: dict[str, float] = Field(default_factory=dict, description="criterion -> weight, the anchor first")
    sources: dict[str, float] = Field(default_factory=dict, description="soup only: policy -> weight")
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
        if any(weight < 0 for weight in (*self.criteria.values(), *self.sources.values())):
            raise ValueError("weights are zero or more")
        if self.method == "modpo" and next(iter(self.criteria.values())) <= 0:
            raise ValueError("the anchor, the first criterion, needs a weight above zero")
        return self


class Alignment(Section):
    """All policies of the study, by name, and the settings that they share."""

    training: Training = Training()
    policies: dict[str, Policy] = Field(min_length=2)
