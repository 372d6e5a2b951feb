"""``modpo triage``: why shards failed, grouped by root cause, and the command that mends each."""

from __future__ import annotations

import argparse
import json

from modpo_hpc.cli.arguments import add_json, add_run_dir, first_of
from modpo_hpc.cli.consoles import console
from modpo_hpc.launch.state import take_snapshot
from modpo_hpc.launch.triage import CAUSES, FailureGroup, find_failures, group, remedy, suspects
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run

SHOWN_SHARDS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="this stage only")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.stage:
        stage_named(arguments.stage)
    the_run = Run.open(arguments.run_dir)
    snapshot = take_snapshot(the_run)
    failures = find_failures(snapshot, arguments.stage)
    groups, bad_nodes = group(failures), suspects(snapshot, failures)
    if arguments.json:
        print(json.dumps(as_json(the_run, groups, bad_nodes)))
    else:
        render(the_run, groups, bad_nodes)
    return 1 if groups else 0


def as_json(the_run: Run, groups: list[FailureGroup], bad_nodes: list[str]) -> dict[str, object]:
    """The groups as plain data."""
    return {
        "run": str(the_run.root),
        "groups": [
            {
                "class": one.cause,
                "message": one.message,
                "nodes": one.nodes,
                "shards": [[failure.state.stage, failure.state.shard] for failure in one.failures],
                "slurm": sorted({failure.state.slurm for failure in one.failures}),
                "remedy": remedy(one, the_run.root)[0],
                "command": remedy(one, the_run.root)[1],
            }
            for one in groups
        ],
        "suspects": bad_nodes,
    }


def render(the_run: Run, groups: list[FailureGroup], bad_nodes: list[str]) -> None:
    """Print each group: cause, words, where, and what to do."""
    from rich.markup import escape

    out = console()
    if not groups:
        out.print(f"No shard of {escape(str(the_run.root))} has failed.")
    for one in groups:
        names = [f"{failure.state.stage}/{failure.state.shard}" for failure in one.failures]
        states = sorted({failure.state.slurm for failure in one.failures} - {""})
        said = f"({one.cause}; Slurm says {', '.join(states) or 'nothing'})"
        out.print(f"[bold red]{len(names)} x {CAUSES[one.cause]}[/] [dim]{said}[/]")
        if one.message:
            out.print(f"  {escape(one.message)}")
        out.print(f"  shards {first_of(names, SHOWN_SHARDS)}")
        out.print(f"  nodes  {', '.join(f'{node} ({count})' for node, count in one.nodes.items())}")
        what, command = remedy(one, the_run.root)
        out.print(f"  {what}\n  [bold]{escape(command)}[/]\n")
    if bad_nodes:
        out.print(f"Suspect nodes: {', '.join(bad_nodes)}. Keep away from them with --exclude-suspects.")
