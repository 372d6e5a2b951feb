"""``modpo cases DIR``: the single cases behind a cell: question, answers, every verdict, the judge's raw answer."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modpo_hpc.cli.arguments import add_flag, add_json, add_run_dir, require_positive, show
from modpo_hpc.cli.consoles import console
from modpo_hpc.core.atomic import write_text
from modpo_hpc.errors import InputError
from modpo_hpc.run import Run

if TYPE_CHECKING:
    from modpo_hpc.report.cases import Case, MatrixCell

KINDS = ("won", "lost", "tied", "closest", "flipped", "judges", "people")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument("--phase", help="phase of judging; the first if not given")
    parser.add_argument("--pair", nargs=2, metavar=("A", "B"), help="two policies; A's wins are won, B's are lost")
    parser.add_argument("--criterion", help="the criterion; the phase's first if not given")
    parser.add_argument("--show", choices=KINDS, default="closest", help="which cases (default: closest)")
    parser.add_argument("--limit", type=int, default=15, metavar="N", help="most cases to list (default: 15)")
    parser.add_argument(
        "--question", metavar="ID", help="this case alone: answers, verdicts of all personas, raw answers"
    )
    add_flag(parser, "--texts", "show texts that are personal (posts that people wrote)")
    parser.add_argument(
        "--page", nargs="?", const="", metavar="FILE", help="write all cases as one page (DIR/cases.html), with --texts"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.report import cases
    from modpo_hpc.report.cases_page import cases_page

    opened = Run.open(arguments.run_dir)
    require_positive("--limit", arguments.limit, "at least one case")
    texts = arguments.texts or cases.texts_are_invented(opened)
    if arguments.page is not None:
        place = Path(arguments.page or opened.root / "cases.html")
        write_text(place, cases_page(opened, texts))
        show(arguments.json, {"page": str(place)}, f"{place}\nOpen it with a browser.")
        return 0
    asked = cases.MatrixCell.of(opened, arguments.phase, arguments.criterion, arguments.pair)
    found = cases.read_cases(opened, asked)
    if arguments.question is None:
        listed = cases.select(found, arguments.show)
        if arguments.json:
            print(json.dumps([_brief(case) for case in listed[: arguments.limit]], indent=1))
        else:
            _print_list(opened, asked, arguments.show, listed, arguments.limit, texts)
        return 0
    case = next((one for one in found if one.question_id == arguments.question), None)
    if case is None:
        raise InputError(
            "this pair was not judged on such a question",
            field="--question",
            value=arguments.question,
            remedy=f"Its questions are {', '.join(one.question_id for one in found[:5])} and so on.",
        )
    told = _whole(opened, asked, case, texts)
    print(json.dumps(told, indent=1, ensure_ascii=False)) if arguments.json else _print_case(asked, case, told)
    return 0


def _brief(case: Case) -> dict[str, Any]:
    return {"question_id": case.question_id, **case.count, "margin": case.margin, "flip": case.flip}


def _whole(opened: Run, asked: MatrixCell, case: Case, texts: bool) -> dict[str, Any]:
    from modpo_hpc.report import cases

    groups, raw = cases.persona_groups(opened), cases.raw_answers(opened, case.votes)
    question, answer_a, answer_b = cases.texts_of(opened, asked, case.question_id) if texts else (None, None, None)
    return {
        **asdict(asked),
        **_brief(case),
        "question": question,
        "answer_a": answer_a,
        "answer_b": answer_b,
        "verdicts": [
            {**asdict(vote), "groups": groups.get(vote.persona_id, {}), "raw": raw.get(vote.key or "")}
            for vote in case.votes
        ],
    }


def _print_list(opened: Run, asked: MatrixCell, kind: str, listed: list[Case], limit: int, texts: bool) -> None:
    from rich import box
    from rich.table import Table

    from modpo_hpc.data.questions import study_questions
    from modpo_hpc.report.cases import KINDS as WORDS

    questions = {one.question_id: one.text for one in study_questions(opened, "test")} if texts else {}
    shown = console(elsewhere=140)
    if opened.sandbox_mark:
        shown.print(opened.sandbox_mark, style="bold yellow", markup=False)
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{asked.phase}, {asked.criterion}: {asked.a} (A) against {asked.b} (B); {WORDS[kind]}",
        title_justify="left",
    )
    for name in ("question", "A", "B", "tie", "A first", "B first"):
        table.add_column(name, justify="left" if name == "question" else "right", no_wrap=True)
    if texts:
        table.add_column("post", no_wrap=True, overflow="ellipsis")
    for case in listed[:limit]:
        orders = [f"{case.margin_where(first=side):+d}" for side in ("A", "B")]
        row = [case.question_id, *(str(case.count[name]) for name in ("A", "B", "tie")), *orders]
        table.add_row(*row, *([" ".join(questions[case.question_id].split())[:56]] if texts else []))
    shown.print(table)
    more = f", {limit} shown (--limit)" if len(listed) > limit else ""
    shown.print(f"{len(listed)} cases{more}. 'A first': votes for A less votes for B where A was shown first.")
    if listed:
        shown.print(
            f"One of them whole: modpo cases {opened.quoted} --phase {asked.phase} --pair {asked.a} {asked.b} "
            f"--criterion {asked.criterion} --question {listed[0].question_id}{'' if texts else ' --texts'}",
        )


def _print_case(asked: MatrixCell, case: Case, told: dict[str, Any]) -> None:
    from rich import box
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    shown = console(elsewhere=120)
    if told["question"] is None:
        shown.print("Texts are personal and not shown; --texts shows them.", style="dim")
    else:
        for name, part in (("question", "question"), (f"A: {asked.a}", "answer_a"), (f"B: {asked.b}", "answer_b")):
            words = Text(told[part], no_wrap=False, overflow="fold")
            shown.print(Panel(words, title=name, title_align="left", box=box.ROUNDED))
    counted = ", ".join(f"{name} {count}" for name, count in case.count.items() if count)
    shown.print(f"{asked.phase}, {asked.criterion}, question {case.question_id}: {counted}")
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("persona", "groups", "judge", "shown first", "verdict", "raw answer"):
        table.add_column(name)
    for vote in told["verdicts"]:
        verdict = f"{vote['winner']} ({vote['reason']})" if vote["reason"] else vote["winner"]
        groups = ", ".join(vote["groups"].values())
        cells = (vote["persona_id"], groups, vote["judge"], vote["first"], verdict, vote["raw"] or "not in the ledger")
        table.add_row(*map(Text, cells))
    shown.print(table)
