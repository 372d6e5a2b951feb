"""Arguments that several commands take, said once."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any


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


def add_study(parser: argparse.ArgumentParser, words: str = "study file, for instance configs/demo.yaml") -> None:
    """``STUDY``, and the ``--set`` that overrides its fields."""
    parser.add_argument("study", metavar="STUDY", help=words)
    add_overrides(parser)


def add_reuse(parser: argparse.ArgumentParser) -> None:
    """``--reuse RUN``, any number of times."""
    parser.add_argument(
        "--reuse",
        action="append",
        default=[],
        metavar="RUN",
        help="take over what this run (or a folder of runs) has made from the same; MODPO_REUSE names more",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """``--set KEY=VALUE``, any number of times."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a field of the study",
    )


def quoted(path: object) -> str:
    """``path`` as a word that can be copied into a shell."""
    return shlex.quote(str(path))
