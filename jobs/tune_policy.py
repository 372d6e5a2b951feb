"""Tune a policy: one trial of the search of its settings."""

from __future__ import annotations

from modpo_hpc.alignment.tuning import TRIALS, journal_path, objective, search_plan, trial_row
from modpo_hpc.run import Run, Shard
from modpo_hpc.search import Search


def tune_policy(run: Run, shard: Shard) -> None:
    """Train with the settings that the search draws for this trial, and measure the held-out accuracy."""
    policy, _, number = shard.id.rpartition(".")
    search = Search(journal_path(run, policy), search_plan(run, policy), shard.check)
    trial = search.run(int(number), objective(run, shard, policy))
    row = trial_row(run, policy, trial)
    shard.metrics["accuracy"] = row["accuracy"]
    shard.write_table([row], TRIALS)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("policy_trials")
