"""Single cases behind the numbers: a question, the two answers to it, and every verdict on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modpo_hpc.data.questions import study_questions
from modpo_hpc.errors import InputError
from modpo_hpc.judging.requests import answers_of
from modpo_hpc.llm.ledger import Ledger
from modpo_hpc.llm.store import ledger_folder
from modpo_hpc.report.results import rows_of
from modpo_hpc.run import Run

KINDS = {
    "won": "A won",
    "lost": "B won",
    "tied": "tied",
    "closest": "closest",
    "flipped": "the order flips the winner",
    "judges": "the judges disagree",
    "people": "the raters disagree with the judge",
}
"""Kinds of cases, the most telling of each first."""
GROUPS = ("population", "age_group", "gender", "primary_ethnicity")
_SIGN = {"A": 1, "B": -1}
_OTHER = {"A": "B", "B": "A"}


@dataclass(frozen=True)
class Vote:
    """One verdict: of a persona (played by ``judge``), with the answer shown first and the ledger's key."""

    persona_id: str
    winner: str
    first: str
    judge: str
    key: str | None
    reason: str | None


@dataclass(frozen=True)
class Case:
    """All verdicts on one question for one pair of policies under one criterion; ``people`` is the raters' vote."""

    question_id: str
    votes: tuple[Vote, ...]
    people: int | None = None

    @cached_property
    def count(self) -> dict[str, int]:
        """Votes by winner: A, B, tie, unparsed, not_asked."""
        return {name: sum(vote.winner == name for vote in self.votes) for name in
                ("A", "B", "tie", "unparsed", "not_asked")}  # fmt: skip

    @property
    def margin(self) -> int:
        """Votes for A less votes for B; its sign is the winner."""
        return self.count["A"] - self.count["B"]

    def margin_where(self, **values: str) -> int:
        """The margin among the votes with these ``values``."""
        return sum(
            _SIGN.get(vote.winner, 0)
            for vote in self.votes
            if all(getattr(vote, name) == value for name, value in values.items())
        )

    @property
    def flip(self) -> int:
        """How far the two orders of showing disagree: 0 unless each of them has another winner."""
        shown_first, shown_second = self.margin_where(first="A"), self.margin_where(first="B")
        return abs(shown_first - shown_second) if shown_first * shown_second < 0 else 0

    @property
    def judges_apart(self) -> bool:
        judges = {vote.judge for vote in self.votes}
        return len({np.sign(self.margin_where(judge=name)) for name in judges}) > 1

    @property
    def people_apart(self) -> bool:
        return self.people is not None and np.sign(self.people) != np.sign(self.margin)


@dataclass(frozen=True)
class MatrixCell:
    """Which cell of a matrix is opened: row ``a`` against column ``b``."""

    phase: str
    criterion: str
    a: str
    b: str

    @classmethod
    def of(cls, run: Run, phase: str | None, criterion: str | None, pair: Sequence[str] | None) -> MatrixCell:
        """The comparison asked for; what is not given is the first of the study.

        Raises:
            InputError: the study has no such phase, criterion or pair.
        """
        phases = run.study.judging.phases
        phase = _one_of(phase or next(iter(phases)), phases, "phase")
        criterion = _one_of(criterion or phases[phase].criteria[0], phases[phase].criteria, "criterion")
        first, second = pair or run.study.judging.phases[phase].pairs[0]
        for policy in (first, second):
            _one_of(policy, phases[phase].policies, "pair")
        if first == second:
            raise InputError("a policy is not judged against itself", field="pair", value=first, remedy="Give two.")
        return cls(phase, criterion, first, second)


def read_cases(run: Run, asked: MatrixCell) -> list[Case]:
    """The cases of one comparison that was judged, in the order of the test questions; A is the policy named first.

    Raises:
        IncompleteError: the pair is not judged yet.
    """
    turned = (asked.a, asked.b) not in run.study.judging.phases[asked.phase].pairs
    a, b = (asked.b, asked.a) if turned else (asked.a, asked.b)
    shards = [one for one in run.shard_ids("verdicts") if one.rpartition(".")[0] == f"{asked.phase}.{a}.{b}"]
    table = run.table("verdicts", shard_ids=shards)
    rows = [row for row in table.to_pylist() if row["criterion"] == asked.criterion]
    votes: dict[str, list[Vote]] = {}
    for row in rows:
        winner, first = (_OTHER.get(row[name], row[name]) if turned else row[name] for name in ("winner", "first"))
        judge = row.get("judge", run.study.judges[0].name)
        vote = Vote(row["persona_id"], winner, first, judge, row.get("key"), row.get("reason"))
        votes.setdefault(row["question_id"], []).append(vote)
    people = people_votes(run, asked)
    order = [question.question_id for question in study_questions(run, "test")]
    cases = [Case(one, tuple(votes[one]), people.get(one)) for one in order if one in votes]
    return [case for case in cases if case.count["not_asked"] < len(case.votes)]


def select(cases: Sequence[Case], kind: str) -> list[Case]:
    """The cases of a ``kind`` (one of ``KINDS``), the most telling first."""
    wanted = {
        "won": lambda case: case.margin > 0,
        "lost": lambda case: case.margin < 0,
        "tied": lambda case: case.margin == 0,
        "closest": lambda case: True,
        "flipped": lambda case: case.flip > 0,
        "judges": lambda case: case.judges_apart,
        "people": lambda case: case.people_apart,
    }[kind]
    order = {"closest": lambda case: abs(case.margin), "flipped": lambda case: -case.flip}
    return sorted(filter(wanted, cases), key=order.get(kind, lambda case: -abs(case.margin)))


def people_votes(run: Run, asked: MatrixCell) -> dict[str, int]:
    """Question -> votes of the raters for A less those for B, if people judged this pair under this criterion."""
    path = run.root / "human" / "analysis" / "judgments.parquet"
    summary = path.with_name("summary.json")
    if not path.exists() or not summary.exists():
        return {}
    told = json.loads(summary.read_text(encoding="utf-8"))
    if {told["a"], told["b"]} != {asked.a, asked.b}:
        return {}
    side = 1 if told["a"] == asked.a else -1
    found: dict[str, int] = {}
    for row in rows_of(path):
        if row["criterion"] == asked.criterion:
            found[row["question_id"]] = found.get(row["question_id"], 0) + side * _SIGN.get(row["winner"], 0)
    return found


def texts_of(run: Run, asked: MatrixCell, question_id: str) -> tuple[str, str, str]:
    """The question and the answers of A and of B."""
    questions = {one.question_id: one.text for one in study_questions(run, "test")}
    return questions[question_id], answers_of(run, asked.a)[question_id], answers_of(run, asked.b)[question_id]


def raw_answers(run: Run, votes: Sequence[Vote]) -> dict[str, str]:
    """Key -> the judge's raw answer, of those that the run's ledgers have."""
    keys = [bytes.fromhex(vote.key) for vote in votes if vote.key and len(vote.key) == 32]
    found: dict[str, str] = {}
    for folder in {ledger_folder(run, judge) for judge in run.study.judges}:
        if folder.is_dir():
            with Ledger(folder) as ledger:
                entries = ledger.find(keys).items()
                found |= {key.hex(): one.answer or f"refused: {one.refusal}" for key, one in entries}
    return found


def persona_groups(run: Run) -> dict[str, dict[str, str]]:
    """Test persona -> its groups, by attribute."""
    return {
        row["persona_id"]: {name: row[name] for name in GROUPS if row.get(name)}
        for row in run.table("personas").to_pylist()
        if row["split"] == "test"
    }


def texts_are_invented(run: Run) -> bool:
    """Whether nobody's words can be shown: the sandbox made the posts."""
    return "posts" in run.study.simulated and not run.imported("questions")


def _one_of(value: str, known: Mapping[str, Any] | Sequence[str], field: str) -> str:
    if value not in known:
        raise InputError(
            "the study has judged nothing of this name", field=field, value=value, remedy=f"It has: {', '.join(known)}."
        )
    return value
