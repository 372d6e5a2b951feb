"""``modpo``: finds the command, loads that command only, turns errors into exit codes."""

from __future__ import annotations

import argparse
import errno
import importlib
import keyword
import os
import sys
from collections.abc import Sequence
from typing import Any

COMMANDS: dict[str, str] = {
    "new": "a study of your own from your posts and criteria: writes its files, shows rows, prompts and what to type",
    "run": "run a study on this machine",
    "plan": "what a study will take: shards, calls, GPU-hours, price, time, disk",
    "submit": "hand a study to a Slurm cluster: what is missing, with its dependencies",
    "tend": "stay with a submitted run until it is done: hand in what there is room for, mend what can be mended",
    "status": "what is done, running, failed and missing in a run",
    "logs": "the log of a shard, without knowing any job id",
    "efficiency": "what the jobs of a run used of what they asked for; a profile that fits that",
    "triage": "why shards failed, by root cause, and the command that mends each",
    "rerun": "make exactly these shards again: on Slurm, on this machine, or here in the foreground",
    "cancel": "take jobs of a run out of the queue",
    "explain": "what a result was made from, and what changed if it is stale",
    "verify": "every output of a run against its manifest, byte for byte",
    "doctor": "whether this machine and this cluster can carry out a study",
    "prefetch": "models of a study into the cache, for compute nodes without internet",
    "profile": "list, show or draft cluster profiles",
    "import": "bring the authors' files, or others in their formats, into a new run",
    "export": "write a run's data in the authors' formats, as datasets and as adapters",
    "pack": "a finished run as one file, checked on the way; or the check of such a file",
    "rehearse": "the whole study at true counts without a GPU or an API: what it will take, where it would hurt",
    "ledger": "raw answers of the judges: how many, what they cost, which cannot be read",
    "personas": "who the personas are, and whether one of them could be recognized",
    "human": "judgments by people: sample, forms, analysis",
    "audit": "would the conclusions survive their judge: corrected win rates, total error, what to ask next",
    "results": "rankings and McNemar's tests of a finished run, in the terminal",
    "cases": "the single cases behind a number: question, answers, verdicts, raw answers",
    "trace": "what a number of the report rests on: rows, files, hashes, and the lines that compute it",
    "report": "make the report of a run: one page, every figure and table as files",
    "compare": "the tables of several runs side by side, with the spread between them",
}

OF_THE_PLACE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST),
    *(errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ELOOP),
)
"""What a file system answers when the place that was named will not do; anything else is a fault of the program."""


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Exit codes: 0 done, 1 the work failed, 2 the input or call was wrong, 3 incomplete."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that this terminal cannot show ends no command
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="modpo",
        description="Align a language model to several objectives, judged by personas, on a laptop or a Slurm cluster.",
        epilog="For research and supervised use. modpo COMMAND --help tells what a command takes.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, summary in COMMANDS.items():
        one = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            _module(name).add_arguments(one)
    arguments = parser.parse_args(words)
    if arguments.version:
        from modpo_hpc import __version__

        print(f"modpo-hpc {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.errors import ModpoError

    os.umask(0o077)  # what a command writes may hold survey answers and posts
    try:
        return int(_module(arguments.command).run(arguments))
    except ModpoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        if error.errno not in OF_THE_PLACE or error.filename is None:
            raise
        print(
            f"error: {error.filename}: {error.strerror}. Give a place that exists, can be written and has room left.",
            file=sys.stderr,
        )
        return 2


def _module(command: str) -> Any:
    name = command.replace("-", "_")
    return importlib.import_module(f"modpo_hpc.cli.{name}_" if keyword.iskeyword(name) else f"modpo_hpc.cli.{name}")


if __name__ == "__main__":
    sys.exit(main())
