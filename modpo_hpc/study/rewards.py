"""Section of the study on reward models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modpo_hpc.study.section import Section


class RewardSearch(Section):
    """Search space of the reward models; ``(low, high)`` ranges and lists of choices."""

    trials: int = Field(20, ge=0)
    learning_rate: tuple[float, float] = (5e-7, 2e-5)
    weight_decay: tuple[float, float] = (0.01, 0.15)
    dropout: tuple[float, float] = (0.1, 0.4)
    batch_size: tuple[int, ...] = (8, 16)
    max_length: tuple[int, ...] = (256, 512)
    epochs: tuple[int, int] = (3, 7)


class Rewards(Section):
    """One Bradley-Terry reward model a criterion."""

    search: RewardSearch = RewardSearch()
    held_out: float = Field(0.1, gt=0, lt=1, description="share of questions held out for the search")
    folds: int = Field(5, ge=2, description="folds of the out-of-fold scores")
    scale: Literal["raw", "calibrated", "zscore"] = "calibrated"
