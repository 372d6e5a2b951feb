"""Align the base model: train one policy's LoRA adapter by SFT, DPO, MODPO or Joint-Loss DPO."""

from __future__ import annotations

from modpo_hpc.alignment.policy import align_policy, write_policy
from modpo_hpc.run import Run, Shard


def align(run: Run, shard: Shard) -> None:
    settings = run.study.alignment.training_of(shard.id)
    aligned = align_policy(run, shard.id, settings, shard.scratch, shard)
    with shard.directory(shard.id) as folder:
        write_policy(folder, aligned)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("policies")
