"""``modpo ledger``: what the ledger of raw answers holds, read again with the parser of today."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modpo_hpc.judging.audit import Account

LAST_WORD = (
    "Tables are made from these answers: after a change of the parser, modpo rerun DIR STAGE makes them anew without "
    "a call."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="run directory, or folder of a shared ledger")
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    """Show the account; 1 if anything in it is damaged or kept twice."""
    from modpo_hpc.judging.audit import audit

    accounts = [audit(ledger) for ledger in find_ledgers(arguments.folder)]
    if arguments.json:
        print(json.dumps({"ledgers": [account.as_json() for account in accounts]}, indent=1))
    else:
        print("\n".join([*map(render, accounts), LAST_WORD]))
    return 1 if any(account.repeated for account in accounts) else 0


def find_ledgers(folder: Path) -> list[Path]:
    """The ledgers that belong to ``folder``: of a run, those of its judges, each once.

    Raises:
        InputError: there is none.
    """
    from modpo_hpc.errors import InputError
    from modpo_hpc.llm import segments

    candidates = [folder, folder / "ledger"]
    if (folder / "study.yaml").is_file():
        from modpo_hpc.llm.store import ledger_folder
        from modpo_hpc.run import Run

        run = Run.open(folder)
        candidates = [ledger_folder(run, judge) for judge in run.study.judges]
    found = [one for one in dict.fromkeys(candidates) if one.is_dir() and segments.segments(one)]
    if found:
        return found
    raise InputError(
        "there is no ledger here (no segments *.jsonl.zst)",
        file=folder,
        remedy="Give a run directory in which something was judged, or the folder that judge.ledger names.",
    )


def render(account: Account) -> str:
    """The account in words."""
    lines = [
        f"ledger {account.folder}: {account.keys:,} answers in {account.segments} segments, "
        f"{account.bytes / 1e6:.1f} MB"
        + (f" ({account.being_written} being written now)" if account.being_written else "")
    ]
    for name, judge in sorted(account.judges.items()):
        lines.append(f"  {name}: {judge.answers:,} answers, {judge.refusals:,} of them refusals; {judge.calls:,} calls")
        if judge.tokens_read:
            lines.append(
                f"    tokens: {judge.tokens_read:,} read ({judge.tokens_cached:,} cached), "
                f"{judge.tokens_written:,} written; ${judge.usd:,.4f}"
            )
        unparsed = sum(judge.unparsed.values())
        share = unparsed / judge.opinions if judge.opinions else 0.0
        lines.append(f"    unparsed: {unparsed:,} of {judge.opinions:,} opinions ({share:.2%})")
        lines += [f"      {count:,} x {reason}" for reason, count in judge.unparsed.most_common(8)]
    for name, lost in account.torn.items():
        lines.append(
            f"  {name}: {lost} bytes are no whole write (a writer was killed, or the file was damaged). They are "
            "ignored; all other answers are there, and what is missing is asked again by the next run."
        )
    if account.repeated:
        lines.append(
            f"  {account.repeated:,} answers are there more than once: two runs asked the same at the same time."
        )
    return "\n".join(lines)
