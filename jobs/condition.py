"""Condition an adapter on the weights of the criteria: trained over random weights from the soup of its sources."""

from __future__ import annotations

import shutil

from modpo_hpc.alignment.start import train_policy
from modpo_hpc.run import Run, Shard
from modpo_hpc.training import Workplace


def condition(run: Run, shard: Shard) -> None:
    settings = run.study.alignment.training_of(shard.id)
    workplace = Workplace(shard.scratch, shard.check, shard.progress)
    trained = train_policy(run, shard.id, settings, workplace, shard.stage.resources(run.study))
    if trained is not None:
        with shard.directory(shard.id) as folder:
            shutil.copytree(trained, folder, dirs_exist_ok=True)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("conditioned")
