"""Align the base model: train one policy's LoRA adapter by SFT, DPO, MODPO or Joint-Loss DPO."""

from __future__ import annotations

from modpo_hpc.alignment.start import make_policy
from modpo_hpc.alignment.trial import chosen_settings
from modpo_hpc.run import Run, Shard


def align(run: Run, shard: Shard) -> None:
    make_policy(run, shard, chosen_settings(run, shard.id))


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("policies")
