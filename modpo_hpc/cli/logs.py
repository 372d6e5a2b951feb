"""``modpo logs``: the log of a shard, without knowing any job id."""

from __future__ import annotations

import argparse
import re
import sys

from modpo_hpc.cli.arguments import add_flag, add_run_dir, require_known
from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.launch import logs
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument("stage", metavar="STAGE", help="stage, for instance responses")
    parser.add_argument("shards", metavar="SHARD", nargs="*", help="shards; all that were attempted if not given")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="stay, and show what is written until the shards are done"
    )
    parser.add_argument("--attempt", type=int, metavar="N", help="this attempt, not the newest")
    parser.add_argument("--grep", metavar="REGEX", help="only lines that match")
    add_flag(parser, "--path", "print the paths of the logs alone")


def run(arguments: argparse.Namespace) -> int:
    the_run, stage = Run.open(arguments.run_dir), stage_named(arguments.stage).name
    require_known(stage, arguments.shards, the_run.shard_ids(stage))
    try:
        pattern = re.compile(arguments.grep) if arguments.grep else None
    except re.error as error:
        raise InputError(
            f"no regular expression: {error}", field="--grep", value=arguments.grep, remedy="Quote it."
        ) from None
    shards = arguments.shards or logs.shards_with_logs(the_run, stage)
    if not shards:
        raise IncompleteError(f"no shard of {stage} was attempted yet. Where it stands: modpo status {the_run.quoted}")
    sources = logs.tails(the_run, stage, shards, arguments.attempt, wait=arguments.follow)
    if arguments.path:
        print("\n".join(str(source.path) for source in sources))
        return 0
    for line in logs.lines_so_far(sources, pattern):
        print(line)
    if arguments.follow:
        sys.stdout.flush()
        for line in logs.follow(the_run, stage, shards, pattern, sources):
            print(line, flush=True)
    return 0
