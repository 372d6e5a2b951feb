"""Arguments that several commands take, said once."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from modpo_hpc.errors import InputError


class Parser(argparse.ArgumentParser):
    """Options may stand anywhere among the arguments of a command, also before one that may be left out.

    By itself argparse (that of Python 3.11, for one) takes such an argument for left out as soon as an option comes.
    """

    _parses = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        has_commands = any(action.nargs == argparse.PARSER for action in self._get_positional_actions())
        if self._parses or has_commands:
            return super().parse_known_args(args, namespace)
        self._parses = True  # what is called next calls this again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._parses = False


def add_flag(parser: argparse._ActionsContainer, name: str, words: str) -> None:
    """An option that is given or not."""
    parser.add_argument(name, action="store_true", help=words)


def add_repeated(parser: argparse.ArgumentParser, name: str, metavar: str, words: str, dest: str | None = None) -> None:
    """An option that may be given any number of times."""
    parser.add_argument(name, action="append", default=[], metavar=metavar, dest=dest, help=words)


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    add_flag(parser, "--json", "print JSON alone")


def add_run_dir(parser: argparse.ArgumentParser) -> None:
    """``DIR``, the folder of a run."""
    parser.add_argument("run_dir", metavar="DIR", help="run directory")


def add_study(parser: argparse.ArgumentParser, words: str = "study file, for instance configs/demo.yaml") -> None:
    """``STUDY``, and the ``--set`` that overrides its fields."""
    parser.add_argument("study", metavar="STUDY", help=words)
    add_overrides(parser)


def add_reuse(parser: argparse.ArgumentParser) -> None:
    """``--reuse RUN``, any number of times."""
    words = "take over what this run (or a folder of runs) has made from the same; MODPO_REUSE names more"
    add_repeated(parser, "--reuse", "RUN", words)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """``--set KEY=VALUE``, any number of times."""
    add_repeated(parser, "--set", "KEY=VALUE", "override a field of the study", dest="overrides")


def show(as_json: bool, content: object, words: str, indent: int | None = None) -> None:
    """Print ``content`` as JSON, or what it comes to in ``words``."""
    print(json.dumps(content, indent=indent) if as_json else words)


def require_positive(field: str, number: int | None, problem: str) -> None:
    """Refuse a ``number`` below 1 for the option ``field``."""
    if number is not None and number < 1:
        raise InputError(problem, field=field, value=number, remedy="Give 1 or more.")


def first_of(names: Sequence[str], most: int) -> str:
    """``a, b and 3 more``: not ``most`` names and more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def quoted(path: object) -> str:
    """``path`` as a word that can be copied into a shell."""
    return shlex.quote(str(path))


def require_new(file: Path) -> None:
    """Refuse a ``file`` that is there already."""
    if file.exists():
        raise InputError("this file is there already", file=file, remedy="Give another name, or move it away.")


def require_known(stage: str, shards: Iterable[str], known: Sequence[str]) -> None:
    """Refuse the first of ``shards`` that ``stage`` does not have."""
    if unknown := [shard for shard in shards if shard not in known]:
        raise InputError(
            f"stage {stage} has no such shard",
            field="SHARD",
            value=unknown[0],
            remedy=f"Its shards: {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}.",
        )
