"""Tune a policy: one trial of the search of its settings."""

from __future__ import annotations

from modpo_hpc.alignment.trial import TRIALS, objective, space_of, trial_row
from modpo_hpc.run import Run, Shard
from modpo_hpc.search import item_of, run_trial


def tune_policy(run: Run, shard: Shard) -> None:
    """Train with the settings that the search draws for this trial, and measure the held-out accuracy."""
    policy, search = item_of(shard), run.study.alignment.search
    trial = run_trial(run, shard, search, space_of(search), objective(run, shard, policy))
    row = trial_row(run, policy, trial)
    shard.metrics["accuracy"] = row["accuracy"]
    shard.write_table([row], TRIALS)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("policy_trials")
