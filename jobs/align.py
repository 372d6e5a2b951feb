"""Align the base model: train one policy's LoRA adapter by SFT, DPO, MODPO or Joint-Loss DPO."""

from __future__ import annotations

import shutil

from modpo_hpc.alignment.start import train_policy
from modpo_hpc.alignment.trial import chosen_settings
from modpo_hpc.run import Run, Shard
from modpo_hpc.training import Workplace


def align(run: Run, shard: Shard) -> None:
    settings = chosen_settings(run, shard.id)
    workplace = Workplace(shard.scratch, shard.check, shard.progress)
    trained = train_policy(run, shard.id, settings, workplace, shard.stage.resources(run.study))
    if trained is not None:
        with shard.directory(shard.id) as folder:
            shutil.copytree(trained, folder, dirs_exist_ok=True)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("policies")
