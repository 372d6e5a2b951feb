"""Stand-in: a folder without weights."""

from __future__ import annotations

from modpo_hpc.rehearsal.standins import write_folder
from modpo_hpc.run import Run, Shard


def condition(run: Run, shard: Shard) -> None:
    write_folder(shard, "condition")
