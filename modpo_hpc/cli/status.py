"""``modpo status``: where a run stands, by its markers, reconciled with Slurm."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from modpo_hpc.cli.arguments import add_flag, add_json, add_run_dir
from modpo_hpc.cli.consoles import console, table_of
from modpo_hpc.cli.progress import describe_beat, duration, heartbeat
from modpo_hpc.core.snapshots import drift
from modpo_hpc.launch.commands import available
from modpo_hpc.launch.rows import StageState, summarise
from modpo_hpc.launch.state import Snapshot, take_snapshot
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run

if TYPE_CHECKING:
    from rich.console import RenderableType


WATCH_SECONDS = 5.0
FORGETFUL = (
    "No sacct here: hours of failed attempts are not known, and failures older than squeue's memory by their logs."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument("--shards", metavar="STAGE", help="list the shards of this stage instead")
    add_flag(parser, "--watch", "stay, and show every change until nothing is left to run")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    the_run = Run.open(arguments.run_dir)
    if arguments.shards:
        stage_named(arguments.shards)
        list_shards(take_snapshot(the_run), arguments.shards, arguments.json)
        return 0
    if arguments.watch and not arguments.json:
        return watch(the_run)
    snapshot = take_snapshot(the_run)
    rows = query(snapshot)
    if arguments.json:
        print(json.dumps(as_json(snapshot, rows)))
    else:
        console().print(render(snapshot, rows))
    return exit_code(rows)


def query(snapshot: Snapshot) -> list[StageState]:
    """One row for each stage that has shards in this study."""
    return [summarise(snapshot, stage) for stage, states in snapshot.shards.items() if states]


def exit_code(rows: list[StageState]) -> int:
    """0 complete, 1 something failed, 3 still to do, 4 the queue cannot be seen and jobs are in it."""
    if all(row.counts["done"] == row.total for row in rows):
        return 0
    if any(row.counts["unknown"] for row in rows):
        return 4
    return 1 if any(row.counts["failed"] for row in rows) else 3


def as_json(snapshot: Snapshot, rows: list[StageState]) -> dict[str, Any]:
    """The snapshot as plain data."""
    stages = []
    for row in rows:
        fields = asdict(row)
        stages.append({**fields.pop("counts"), **fields})
    return {
        "run": str(snapshot.run.root),
        "complete": exit_code(rows) == 0,
        "slurm_is_silent": snapshot.silent,
        "drift": drift_in(snapshot),
        "stages": stages,
    }


def render(snapshot: Snapshot, rows: list[StageState]) -> RenderableType:
    """A table with one row a stage, and below it what to do next."""
    from rich.console import Group
    from rich.text import Text

    gpus = any(row.gpu_hours for row in rows)
    root = Text(str(snapshot.run.root), style="bold", no_wrap=True, overflow="ignore")
    cells: list[dict[str, str | Text]] = []
    for row in rows:
        # The note, not the numbers, gives way on a narrow terminal; and it stays on its line.
        note = Text.from_markup(_note(snapshot, row))
        note.no_wrap, note.overflow = True, "ellipsis"
        cells.append({**_numbers(row, gpus), "": note})
    return Group(root, table_of(cells), *(Text.from_markup(line) for line in advice(snapshot, rows)))


def drift_in(snapshot: Snapshot) -> list[str]:
    """The judges that answered as several models, a sentence each."""
    return drift({stage: found.markers.values() for stage, found in snapshot.survey.items()})


def advice(snapshot: Snapshot, rows: list[StageState]) -> list[str]:
    """What a person should know and do next, one line each."""
    from rich.markup import escape

    count = {state: sum(row.counts[state] for row in rows) for state in rows[0].counts} if rows else {}
    root, lines = escape(snapshot.run.quoted), []
    if snapshot.silent:
        lines.append(f"[yellow]From the markers alone, since Slurm does not answer: {escape(snapshot.silent)}[/]")
    elif count.get("unknown"):
        lines.append("[yellow]Jobs of another cluster, or not this run's: look where they were handed in.[/]")
    for row in rows:
        lines += [f"[yellow]{row.stage}: {escape(note)}[/]" for note in row.notes]
        lines += [f"{row.stage}: {escape(note)}" for note in row.waiting]
        if (failure := row.newest_failure) is not None:
            where = f" on {failure.node}" if failure.node else ""
            lines.append(f"[red]{row.stage} {failure.shard}: {failure.slurm or 'failed'}{where}[/]")
    lines += [f"[yellow]{escape(one)}[/]" for one in drift_in(snapshot)]
    if count.get("failed"):
        lines.append(f"[red]{count['failed']} failed.[/] Why: modpo triage {root}")
    if count.get("blocked"):
        lines.append(f"[red]{count['blocked']} wait for what has failed.[/] A rerun of the failed mends that.")
    if snapshot.journal.submissions and snapshot.records is None and not snapshot.silent:
        lines.append(f"[dim]{FORGETFUL}[/]")
    if rows and exit_code(rows) == 0:
        lines.append(f"All is done. modpo results {root}")
    idle = not any(count.get(state) for state in ("running", "queued", "failed", "unknown"))
    if idle and any(row.counts["done"] < row.total for row in rows):
        lines.append("Nothing runs or waits. The same modpo run or modpo submit goes on with what is missing.")
    return lines


def watch(the_run: Any) -> int:
    """Show the table anew every few seconds until nothing runs or waits."""
    from rich.live import Live

    # A controller that is away is shown as such, and looked for again.
    with Live(refresh_per_second=4, transient=True) as live:
        while True:
            snapshot = take_snapshot(the_run)
            rows = query(snapshot)
            live.update(render(snapshot, rows), refresh=True)
            away = snapshot.silent and available()
            open_now = sum(
                row.counts["running"] + row.counts["queued"] + (row.counts["unknown"] if away else 0) for row in rows
            )
            if not open_now:
                break
            time.sleep(WATCH_SECONDS)
    console().print(render(snapshot, rows))
    return exit_code(rows)


def list_shards(snapshot: Snapshot, stage: str, as_data: bool) -> None:
    """One line a shard: its state, job, Slurm's word and node."""
    states = snapshot.shards[stage]
    if as_data:
        print(json.dumps({shard: asdict(state) for shard, state in states.items()}))
        return
    for shard, one in states.items():
        print("  ".join(filter(None, (shard, one.state, one.job, one.slurm, one.node, one.note))))


def _note(snapshot: Snapshot, row: StageState) -> str:
    counts = row.counts
    if counts["unknown"]:
        return f"[yellow]{counts['unknown']} not to be seen[/]"
    if counts["blocked"]:
        return "[red]waits for what has failed[/]"
    if counts["cancelled"]:
        return f"{counts['cancelled']} cancelled"
    if not counts["running"]:
        return ""
    running = next(shard for shard, one in snapshot.shards[row.stage].items() if one.state == "running")
    beat = heartbeat(snapshot.run, row.stage, running)
    return f"[dim]{running}: {describe_beat(beat)}[/]" if beat else ""


def _numbers(row: StageState, gpus: bool) -> dict[str, str]:
    counts = row.counts

    def coloured(count: int, colour: str) -> str:
        return f"[{colour}]{count}[/]" if count else ""

    hours = row.gpu_hours if gpus else row.cpu_hours
    wasted = f"{row.gpu_hours_wasted:.2f}" if row.gpu_hours_wasted else ""
    return {
        "stage": row.stage,
        "done": f"[green]{counts['done']}[/]" if counts["done"] == row.total else str(counts["done"]),
        "of": str(row.total),
        "run": coloured(counts["running"], "cyan"),
        "queue": str(counts["queued"] + counts["blocked"] or ""),
        "fail": coloured(counts["failed"], "red"),
        "stale": coloured(counts["stale"], "yellow"),
        "rate/h": f"{row.shards_per_hour:,.0f}" if row.shards_per_hour and counts["running"] else "",
        "left": duration(row.seconds_left) if row.seconds_left else "",
        "GPU-h" if gpus else "CPU-h": f"{hours:.2f}" if row.gpu_hours or row.cpu_hours else "",
        **({"wasted": wasted} if gpus else {}),
    }
