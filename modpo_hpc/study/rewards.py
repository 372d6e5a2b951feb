"""Section of the study on reward models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modpo_hpc.section import Section

LOSSES = ("bradley_terry", "plackett_luce")


class RewardSearch(Section):
    """Search of the reward models' settings: ``(low, high)`` ranges and lists of choices."""

    trials: int = Field(20, ge=0, description="of each criterion; with 0 the study's rewards.settings are used")
    startup: int = Field(10, ge=1, description="trials drawn at random before the search learns from results")
    wave: int = Field(5, ge=1, description="later trials that are drawn without seeing one another's results")
    prune_after: int | None = Field(1, ge=0, description="epochs before the median rule may stop a trial; empty: never")
    retries: int = Field(2, ge=0, description="how often other workers take up a trial whose worker died")
    learning_rate: tuple[float, float] = (5e-7, 2e-5)
    weight_decay: tuple[float, float] = (0.01, 0.15)
    dropout: tuple[float, float] = (0.1, 0.4)
    batch_size: tuple[int, ...] = Field((8, 16), min_length=1)
    max_length: tuple[int, ...] = Field((256, 512), min_length=1)
    epochs: tuple[int, int] = (3, 7)

    @model_validator(mode="after")
    def _ranges(self) -> RewardSearch:
        for name in ("learning_rate", "weight_decay", "dropout", "epochs"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} goes from {low} to {high}; the lower end comes first")
        if self.learning_rate[0] <= 0 or self.weight_decay[0] <= 0:
            raise ValueError("learning_rate and weight_decay are searched on a log scale and must be above zero")
        if self.dropout[0] < 0 or self.dropout[1] >= 1:
            raise ValueError("dropout lies between 0 and 1")
        if min(*self.batch_size, *self.max_length, self.epochs[0]) < 1:
            raise ValueError("batch_size, max_length and epochs are at least 1")
        return self


class RewardSettings(Section):
    """What one reward model is trained with."""

    learning_rate: float = Field(1e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    dropout: float = Field(0.1, ge=0, lt=1, description="of the encoder, its attention and the head")
    batch_size: int = Field(16, ge=1, description="questions a step")
    max_length: int = Field(512, ge=8, description="tokens of question and response together")
    epochs: int = Field(3, ge=1)


class Rewards(Section):
    """One reward model a criterion."""

    loss: Literal["bradley_terry", "plackett_luce"] = Field(
        "bradley_terry", description="on the best and the worst response, or on the whole ranking"
    )
    search: RewardSearch = RewardSearch()
    settings: RewardSettings = Field(RewardSettings(), description="used when search.trials is 0")
    patience: int | None = Field(2, ge=1, description="epochs without better held-out accuracy that end a trial")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    max_grad_norm: float = Field(1.0, gt=0)
    held_out: float = Field(0.1, gt=0, lt=1, description="share of questions held out for the search")
    folds: int = Field(5, ge=2, description="folds of the out-of-fold scores")
    learning_curve: tuple[float, ...] = Field(
        (), description="shares of the training questions with which extra models are trained, for the learning curve"
    )
    compare_losses: bool = Field(
        False, description="train fold 0's model with the other loss, too, and compare them on the same questions"
    )
    score_answers: bool = Field(
        False,
        description="reward the policies' answers, too, by the final models; always with a sweep",
    )
    scale: Literal["raw", "calibrated", "vote", "zscore"] = Field(
        "calibrated",
        description="what a difference is: as the model gives it, log-odds of the label of all votes together, "
        "log-odds of one vote, or standard deviations",
    )
    score_with: Literal["folds", "final"] = Field(
        "folds", description="models that reward the training responses: of the fold without them, or of all data"
    )
    overlong: Literal["refuse", "cut"] = Field(
        "refuse", description="responses that alone are longer than the longest max_length"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on a GPU")
    gradient_checkpointing: bool = False
    micro_batch_size: int = Field(16, ge=1, description="questions a forward pass")
    checkpoint_seconds: float = Field(120, ge=0, description="least time between two checkpoints of a training")
    score_tokens: int = Field(16384, ge=64, description="tokens, padding included, of one batch when scoring")

    @model_validator(mode="after")
    def _shares(self) -> Rewards:
        if any(not 0 < share < 1 for share in self.learning_curve):
            raise ValueError("learning_curve holds shares between 0 and 1; the full data are always the last point")
        return self
