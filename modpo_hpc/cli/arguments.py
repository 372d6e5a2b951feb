"""Arguments that several commands take, said once."""

from __future__ import annotations

import argparse
import shlex


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
