"""``modpo status``: what is done, running and missing in a run."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modpo_hpc.run import Run

SILENT_SECONDS = 120.0


@dataclass(frozen=True)
class StageStatus:
    """Counts of one stage."""

    stage: str
    total: int
    done: int
    running: int
    stale: int
    rows: int
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="DIR", help="run directory")
    parser.add_argument("--shards", metavar="STAGE", help="list the shards of this stage instead")
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.pipeline import STAGES
    from modpo_hpc.run import Run

    the_run = Run.open(arguments.run_dir)
    if arguments.shards:
        done = the_run.done(arguments.shards)
        listing = {shard: "done" if shard in done else "missing" for shard in the_run.shard_ids(arguments.shards)}
        print(json.dumps(listing) if arguments.json else "\n".join(f"{one} {state}" for one, state in listing.items()))
        return 0
    stages = [query(the_run, stage.name) for stage in STAGES if the_run.shard_ids(stage.name)]
    if arguments.json:
        print(json.dumps({"run": str(the_run.root), "stages": [asdict(stage) for stage in stages]}))
    else:
        render(the_run, stages)
    return 0 if all(stage.done == stage.total for stage in stages) else 3


def query(run: Run, stage: str) -> StageStatus:
    """Count the shards of ``stage`` by their markers and heartbeats."""
    from modpo_hpc.cli.progress import heartbeat
    from modpo_hpc.shards import marker_path

    done = run.done(stage)
    open_shards = [shard for shard in run.shard_ids(stage) if shard not in done]
    beats = [heartbeat(run, stage, shard) for shard in open_shards]
    return StageStatus(
        stage=stage,
        total=len(run.shard_ids(stage)),
        done=len(done),
        running=sum(beat is not None and time.time() - beat["at"] < SILENT_SECONDS for beat in beats),
        stale=sum(marker_path(run.folder(stage), shard).exists() for shard in open_shards),
        rows=sum(marker.rows for marker in done.values()),
        seconds=sum(marker.seconds for marker in done.values()),
    )


def render(run: Run, stages: list[StageStatus]) -> None:
    """Print one row a stage."""
    from rich.console import Console
    from rich.table import Table

    from modpo_hpc.cli.progress import duration

    table = Table(title=str(run.root), box=None, pad_edge=False, title_justify="left")
    for column in ("stage", "done", "of", "running", "stale", "rows", "time in shards"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in stages:
        table.add_row(
            stage.stage,
            f"[green]{stage.done}[/]" if stage.done == stage.total else str(stage.done),
            str(stage.total),
            str(stage.running or ""),
            f"[yellow]{stage.stale}[/]" if stage.stale else "",
            f"{stage.rows:,}" if stage.rows else "",
            duration(stage.seconds) if stage.seconds else "",
        )
    Console().print(table)
