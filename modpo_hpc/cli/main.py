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

from modpo_hpc.cli.arguments import Parser

GROUPS: dict[str, dict[str, str]] = {
    "plan": {
        "new": "a study of your own, from your posts and criteria",
        "plan": "what a study will take: shards, calls, GPU-hours, price, time, disk",
        "rehearse": "the whole study at true counts with stand-ins: where it would hurt",
        "doctor": "whether this machine and this cluster can carry out a study",
        "profile": "list, show or draft cluster profiles",
        "import": "bring the authors' files, or others in their formats, into a new run",
        "personas": "who the personas are, and whether one could be recognized",
    },
    "run": {
        "run": "run a study on this machine",
        "submit": "hand a study to a Slurm cluster: what is missing, with its dependencies",
        "tend": "stay with a submitted run: feed the queue, mend what can be mended",
    },
    "watch": {
        "status": "what is done, running, failed and missing in a run",
        "logs": "the log of a shard, without knowing any job id",
        "explain": "what a result was made from, and what changed if it is stale",
        "efficiency": "what jobs used of what they asked for; a profile that fits that",
        "ledger": "raw answers of the judges: how many, what they cost, which fail",
    },
    "mend": {
        "triage": "why shards failed, by root cause, and the command that mends each",
        "rerun": "make exactly these shards again: on Slurm, on this machine, or here",
        "cancel": "take jobs of a run out of the queue",
    },
    "read": {
        "results": "rankings and McNemar's tests of a finished run, in the terminal",
        "report": "one page, every figure and table as files",
        "audit": "would the conclusions survive their judge: corrected win rates, total error",
        "compare": "the tables of several runs side by side, with their spread",
        "cases": "the single cases behind a number: question, answers, verdicts, raw answers",
        "trace": "from a number to its rows, files, hashes and the lines that compute it",
        "human": "judgments by people: sample, forms, analysis",
        "export": "data in the authors' formats, as datasets and as adapters",
        "pack": "a finished run as one file; the check of a run or of such a file",
    },
}
"""The commands in the order of a day's work."""
COMMANDS: dict[str, str] = {name: words for group in GROUPS.values() for name, words in group.items()}

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
    parser = Parser(
        prog="modpo",
        description="Align a language model to several objectives, judged by personas, on a laptop or a Slurm cluster.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="modpo COMMAND ...",
        epilog=_overview() + "\n\nFor research and supervised use. modpo COMMAND --help tells what a command takes.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    parser.add_argument("--completion", action="store_true", help="print what makes bash complete modpo's words")
    commands = parser.add_subparsers(dest="command", prog="modpo", metavar="COMMAND", help=argparse.SUPPRESS)
    for name, summary in COMMANDS.items():
        one = commands.add_parser(name, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            module_of(name).add_arguments(one)
    arguments = parser.parse_args(words)
    if arguments.version:
        from modpo_hpc import __version__

        print(f"modpo-hpc {__version__}")
        return 0
    if arguments.completion:
        from modpo_hpc.cli.completion import script

        print(script({name: module_of(name).add_arguments for name in COMMANDS}))
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    return _run(arguments)


def _overview() -> str:
    """A line a command, under a heading for each part of the day."""
    lines = []
    for title, group in GROUPS.items():
        lines += [f"{title}:", *(f"  {name:<11} {words}" for name, words in group.items())]
    return "\n".join(lines)


def _run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.errors import ModpoError

    os.umask(0o077)  # what a command writes may hold survey answers and posts
    try:
        return int(module_of(arguments.command).run(arguments))
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


def module_of(command: str) -> Any:
    """The module of ``command``, loaded only when it is asked for."""
    name = command.replace("-", "_")
    return importlib.import_module(f"modpo_hpc.cli.{name}_" if keyword.iskeyword(name) else f"modpo_hpc.cli.{name}")


if __name__ == "__main__":
    sys.exit(main())
