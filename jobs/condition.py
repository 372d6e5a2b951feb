"""Condition an adapter on the weights of the criteria: trained over random weights from the soup of its sources."""

from __future__ import annotations

from modpo_hpc.alignment.start import make_policy
from modpo_hpc.run import Run, Shard


def condition(run: Run, shard: Shard) -> None:
    make_policy(run, shard, run.study.alignment.training_of(shard.id))


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("conditioned")
