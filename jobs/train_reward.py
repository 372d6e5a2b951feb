"""Train a reward model with the best trial's settings: without one fold of the questions, or the final one on all."""

from __future__ import annotations

from modpo_hpc.rewards.fitting import fit_part
from modpo_hpc.rewards.records import PREDICTIONS
from modpo_hpc.run import Run, Shard


def train_reward(run: Run, shard: Shard) -> None:
    """Keep the model and its rewards of the pairs that it did not see (of the final model: of all pairs)."""
    shard.write_table(fit_part(run, shard), PREDICTIONS)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("rewards")
