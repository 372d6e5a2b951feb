"""What the search of reward models may choose from. Without torch, so that a report can look at a search quickly."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from modpo_hpc.study.rewards import RewardSearch


def space_of(search: RewardSearch) -> dict[str, BaseDistribution]:
    """The study's search space as Optuna's distributions."""
    return {
        "learning_rate": FloatDistribution(*search.learning_rate, log=True),
        "weight_decay": FloatDistribution(*search.weight_decay, log=True),
        "dropout": FloatDistribution(*search.dropout),
        "batch_size": CategoricalDistribution(search.batch_size),
        "max_length": CategoricalDistribution(search.max_length),
        "epochs": IntDistribution(*search.epochs),
    }
