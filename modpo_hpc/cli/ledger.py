"""``modpo ledger``: what the ledger of raw answers holds, read again with the parser of today."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from modpo_hpc.cli.arguments import add_json, show
from modpo_hpc.errors import InputError
from modpo_hpc.run import Run

if TYPE_CHECKING:
    from modpo_hpc.judging.audit import Account
    from modpo_hpc.judging.inspect import Inspection

LAST_WORD = (
    "Tables are made from these answers: after a change of the parser, modpo rerun DIR STAGE makes them anew without "
    "a call."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="run directory, or folder of a shared ledger")
    parser.add_argument(
        "--verdict",
        nargs=2,
        metavar=("QUESTION", "PERSONA"),
        help="show the prompt, the raw answer and the repairs behind the verdicts of a persona on a question",
    )
    parser.add_argument("--pair", nargs=2, metavar=("A", "B"), help="of this pair of policies only")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the account, or a verdict; 1 if anything in the ledger is damaged or kept twice."""
    from modpo_hpc.judging.audit import audit

    if arguments.verdict:
        _show_verdict(arguments)
        return 0
    accounts = [audit(ledger) for ledger in find_ledgers(arguments.folder)]
    content = {"ledgers": [account.as_json() for account in accounts]}
    show(arguments.json, content, "\n".join([*map(render, accounts), LAST_WORD]), indent=1)
    return 1 if any(account.repeated or account.torn for account in accounts) else 0


def _show_verdict(arguments: argparse.Namespace) -> None:
    from modpo_hpc.judging.inspect import inspect

    pair = dict(zip(("policy_a", "policy_b"), arguments.pair, strict=True)) if arguments.pair else {}
    question, persona = arguments.verdict
    found = inspect(Run.open(arguments.folder), question, persona, pair)
    content = {"verdicts": [one.as_json() for one in found]}
    show(arguments.json, content, "\n\n".join(map(render_verdict, found)), indent=1)


def render_verdict(one: Inspection) -> str:
    """A judgment in words: what was asked, what came back, what was made of it."""
    row = one.rows[0]
    lines = [
        f"{row['policy_a']} (A) against {row['policy_b']} (B), phase {row['phase']}, question {row['question_id']}, "
        f"persona {row['persona_id']}; shown first: {row['first']}",
        "",
        one.prompt,
    ]
    for number, answer in enumerate(one.answers):
        heading = "answer" if number == 0 else f"repair {number}"
        tokens = f"{answer.usage['read']} tokens read, {answer.usage['written']} written"
        lines += ["", f"{heading} of {answer.model} ({tokens}, {answer.tries} tries, key {answer.key}):"]
        lines.append(answer.text if answer.text is not None else f"(refused: {answer.refusal})")
        lines += [f"  read as {name}: {opinion}" for name, opinion in answer.opinions.items()]
    lines += ["", *(f"in the table: {row['criterion']}: {row['winner']}" for row in one.rows)]
    return "\n".join(lines)


def find_ledgers(folder: Path) -> list[Path]:
    """The ledgers that belong to ``folder``: of a run, those of its judges, each once.

    Raises:
        InputError: there is none.
    """
    from modpo_hpc.llm import segments

    candidates = [folder, folder / "ledger"]
    if (folder / "study.yaml").is_file():
        from modpo_hpc.llm.store import ledger_folder

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
