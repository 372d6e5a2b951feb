"""All cases of a run as one page: every verdict, packed, and a script that opens the cases behind a cell."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np

from modpo_hpc.data.questions import study_questions
from modpo_hpc.evaluation import ballots
from modpo_hpc.report.cases import KINDS, MatrixCell, people_votes, persona_groups
from modpo_hpc.report.page import template
from modpo_hpc.run import Run

PAGE = "cases.html"


def cases_page(run: Run, texts: bool) -> str:
    """The page as HTML that needs nothing beside itself.

    Verdicts are a byte each: the outcome of :class:`modpo_hpc.evaluation.ballots.Ballots` plus one, 8 where A was
    shown first, 16 where B was; compressed, and unpacked by the browser. ``texts`` puts in the questions and answers,
    and who the personas are; without it the page has ids and verdicts only.
    """
    groups = persona_groups(run)
    questions = study_questions(run, "test")
    phases = ballots.collect_phases(run, [one.question_id for one in questions], list(groups))
    head = {
        "study": run.study.name,
        "mark": run.sandbox_mark,
        "questions": [one.question_id for one in questions],
        "personas": [{"id": name, **(told if texts else {})} for name, told in groups.items()],
        "kinds": KINDS,
        "texts": texts,
        "phases": [
            {
                "name": one.phase,
                "policies": one.policies,
                "criteria": one.criteria,
                "pairs": one.pairs,
                "judges": one.judges,
                "people": _people(run, one),
            }
            for one in phases
        ],
    }
    packed = {f"phase-{number}": _packed(_bytes_of(one)) for number, one in enumerate(phases)}
    if texts:
        packed["texts"] = _packed(json.dumps(_texts(run), ensure_ascii=False).encode())
    document = json.dumps(head, ensure_ascii=False).replace("<", "\\u003c")
    return template("cases.html.j2").render(head=document, packed=packed, title=run.study.name)


def link_to(asked: MatrixCell) -> str:
    """Where the report finds the cases of one cell in the page beside it."""
    return f"{PAGE}#phase={asked.phase}&criterion={asked.criterion}&a={asked.a}&b={asked.b}"


def _bytes_of(one: ballots.Ballots) -> bytes:
    code = (one.outcomes + 1).astype(np.uint8)
    return bytes((code | np.where(one.first == 1, 8, 0) | np.where(one.first == -1, 16, 0)).astype(np.uint8).tobytes())


def _people(run: Run, one: ballots.Ballots) -> list[dict[str, Any]]:
    return [
        {"criterion": criterion, "a": a, "b": b, "votes": votes}
        for criterion in one.criteria
        for a, b in one.pairs
        if (votes := people_votes(run, MatrixCell(one.phase, criterion, a, b)))
    ]


def _texts(run: Run) -> dict[str, Any]:
    table = run.table("answers", ["policy", "question_id", "text"]).to_pydict()
    answers: dict[str, dict[str, str]] = {}
    for policy, question, text in zip(table["policy"], table["question_id"], table["text"], strict=True):
        answers.setdefault(policy, {})[question] = text
    return {"questions": {one.question_id: one.text for one in study_questions(run, "test")}, "answers": answers}


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
