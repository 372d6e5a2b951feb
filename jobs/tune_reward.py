"""Tune a reward model: one trial of the search of one criterion's settings."""

from __future__ import annotations

from modpo_hpc.rewards.loading import load_trial_data
from modpo_hpc.rewards.records import TRIALS
from modpo_hpc.rewards.search_space import space_of
from modpo_hpc.rewards.trial import objective, trial_row
from modpo_hpc.run import Run, Shard
from modpo_hpc.search import item_of, run_trial


def tune_reward(run: Run, shard: Shard) -> None:
    """Train with the settings that the search draws for this trial, and measure the held-out accuracy."""
    criterion, search = item_of(shard), run.study.rewards.search
    work = objective(run, shard, criterion, lambda: load_trial_data(run, criterion))
    trial = run_trial(run, shard, search, space_of(search), work)
    row = trial_row(criterion, trial)
    shard.metrics["accuracy"] = row["accuracy"]
    shard.write_table([row], TRIALS)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("reward_trials")
