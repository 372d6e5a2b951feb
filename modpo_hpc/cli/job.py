"""The command line of every script in ``jobs/``: ``python jobs/<verb>.py DIR --shard ID``."""

from __future__ import annotations

import argparse
import sys

from modpo_hpc.cli.arguments import add_run_dir
from modpo_hpc.errors import ModpoError
from modpo_hpc.launch.entry import run_shard


def main(stage: str) -> None:
    """Run the shards named on the command line, in this process."""
    parser = argparse.ArgumentParser(description=f"Make shards of the stage {stage!r}.")
    add_run_dir(parser)
    parser.add_argument("--shard", required=True, nargs="+", metavar="ID", help="shards to make")
    arguments = parser.parse_args()

    try:
        for shard in arguments.shard:
            run_shard(arguments.run_dir, stage, shard)
    except ModpoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
