"""``modpo export``: what a run holds, in the authors' formats, as datasets of the hub, and as adapters."""

from __future__ import annotations

import argparse
from pathlib import Path

from modpo_hpc.cli.arguments import add_json, show
from modpo_hpc.errors import InputError
from modpo_hpc.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="+",
        metavar="DIR",
        help="run directory; or `adapter DIR POLICY`: the adapter of one policy alone",
    )
    parser.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="new or empty folder to write to")
    parser.add_argument(
        "--format",
        action="append",
        choices=("authors", "datasets", "adapters"),
        dest="formats",
        help="one of the formats, may be repeated; all of them if not given",
    )
    parser.add_argument(
        "--weights",
        metavar="CRITERION=SHARE,...",
        help="with adapter, of a conditioned policy: the weights that the plain adapter answers at",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.exchange.exports import FORMATS, write_adapter, write_out
    from modpo_hpc.exchange.source_card import TO_FILL_IN, read_card

    words: list[str] = arguments.words
    if len(words) == 3 and words[0] == "adapter":
        write_adapter(Run.open(words[1]), words[2], arguments.to, _weights(arguments.weights))
        show(arguments.json, {"folder": str(arguments.to)}, f"an adapter for PEFT: {arguments.to}")
        return 0
    if len(words) > 1 or arguments.weights:
        raise InputError(
            "this call has no form that is understood",
            value=" ".join(words),
            remedy="Write modpo export DIR --to FOLDER, or modpo export adapter DIR POLICY --weights a=.6,b=.4 --to "
            "FOLDER.",
        )
    opened = Run.open(words[0])
    written = write_out(opened, arguments.to, tuple(arguments.formats or FORMATS))
    card = read_card(opened.study)
    unfilled = card.unfilled if card else 0
    lines = [f"exported to {arguments.to} (it may hold survey answers and posts: keep it as closed as the run)"]
    lines += [f"  {entries:>8,}  {path}" for path, entries in written.items()]
    if unfilled:
        lines.append(f"{opened.study.data.card}: {unfilled} entries still say {TO_FILL_IN}, and so do the cards")
    content = {"folder": str(arguments.to), "entries": written, "unfilled": unfilled}
    show(arguments.json, content, "\n".join(lines))
    return 0


def _weights(text: str | None) -> dict[str, float] | None:
    """``empathy=.6,safety=.4`` as criterion -> weight."""
    try:
        pairs = [part.split("=") for part in text.split(",")] if text else []
        return {name.strip(): float(value) for name, value in pairs} or None
    except ValueError:
        raise InputError(
            "these weights have no form that is understood",
            field="--weights",
            value=text,
            remedy="Write criterion=share, with commas between: empathy=.6,safety=.4.",
        ) from None
