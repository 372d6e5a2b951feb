"""Stand-in: rewards of the pairs that are drawn, not learned, and a folder without weights."""

from __future__ import annotations

from modpo_hpc.rehearsal.standins import drawn_predictions, write_folder
from modpo_hpc.rewards.records import PREDICTIONS
from modpo_hpc.run import Run, Shard


def train_reward(run: Run, shard: Shard) -> None:
    criterion, _, part = shard.id.rpartition(".")
    write_folder(run, shard)
    shard.write_table(drawn_predictions(run, criterion, part), PREDICTIONS)
