"""Verdicts as arrays: one cube a phase, checked against what the study asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from modpo_hpc.errors import InputError
from modpo_hpc.study.judging import judged_pairs

if TYPE_CHECKING:
    from modpo_hpc.run import Run

COLUMNS = ("phase", "policy_a", "policy_b", "question_id", "persona_id", "criterion", "winner", "first")
JUDGE = "judge"
WON_A, WON_B, TIE, UNPARSED, MISSING, NOT_ASKED, DECIDED = 1, -1, 0, 2, 3, 4, 5
_WINNERS = {"A": WON_A, "B": WON_B, "tie": TIE, "unparsed": UNPARSED, "not_asked": DECIDED}


@dataclass(frozen=True)
class Ballots:
    """All verdicts of one phase.

    ``outcomes`` and ``first`` are int8 (criteria x pairs x questions x personas): who won (WON_A, WON_B, TIE), or why
    there is no vote (UNPARSED, MISSING, NOT_ASKED for who is not on the panel of a question, DECIDED after an early
    stop); and who was shown first, 1 for A, -1 for B, 0 for no verdict. With a panel of ``judges`` each persona votes
    once with each of them: the last axis is all personas with the first judge, then with the second, and so on. With
    ``anchors`` only the pairs that have one of these policies are there.
    """

    phase: str
    policies: tuple[str, ...]
    criteria: tuple[str, ...]
    questions: tuple[str, ...]
    personas: tuple[str, ...]
    outcomes: NDArray[np.int8]
    first: NDArray[np.int8]
    judges: tuple[str, ...] = ()
    anchors: tuple[str, ...] = ()

    def of_judge(self, judge: str) -> Ballots:
        """The ballots of one judge of the panel."""
        start = self.judges.index(judge) * len(self.personas)
        part = slice(start, start + len(self.personas))
        return replace(self, outcomes=self.outcomes[..., part], first=self.first[..., part], judges=())

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs (A, B) in the order of the second axis."""
        return judged_pairs(self.policies, self.anchors)

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """``pairs`` as places among the policies."""
        return tuple((self.policies.index(a), self.policies.index(b)) for a, b in self.pairs)

    @property
    def votes(self) -> NDArray[np.int8]:
        """1 for A, -1 for B, 0 for a tie and wherever there is no vote; the shape of ``outcomes``."""
        return np.where(self.cast, self.outcomes, 0).astype(np.int8)

    @property
    def cast(self) -> NDArray[np.bool_]:
        """Where there is a parsed verdict."""
        return self.outcomes <= WON_A

    def by_judge(self) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
        """``votes`` and ``cast``, the judges of a panel on an axis of their own before that of the personas."""
        shape = (*self.outcomes.shape[:3], max(1, len(self.judges)), -1)
        return self.votes.reshape(shape), self.cast.reshape(shape)

    def cells(self) -> Iterator[tuple[int, int, dict[str, str]]]:
        """Each criterion and pair with its places in the arrays and its key columns."""
        for c, criterion in enumerate(self.criteria):
            for p, (a, b) in enumerate(self.pairs):
                yield c, p, {"phase": self.phase, "criterion": criterion, "policy_a": a, "policy_b": b}


def collect_phases(run: Run, questions: Sequence[str], personas: Sequence[str]) -> list[Ballots]:
    """The ballots of every phase of ``run``, as :func:`collect` gathers them.

    Raises:
        IncompleteError: the verdicts are not finished.
        InputError: see :func:`collect`.
    """
    study = run.study
    verdicts = run.table("verdicts", list(columns_of(study.panel)))
    return [
        collect(
            verdicts,
            phase,
            asked.policies,
            asked.criteria,
            questions,
            personas,
            study.judging.personas_per_question,
            source=str(run.root),
            judges=study.panel,
            anchors=asked.anchors or (),
        )
        for phase, asked in study.judging.phases.items()
    ]


def collect(
    verdicts: pa.Table,
    phase: str,
    policies: Sequence[str],
    criteria: Sequence[str],
    questions: Sequence[str],
    personas: Sequence[str],
    personas_per_question: int | None = None,
    source: str = "verdicts",
    judges: Sequence[str] = (),
    anchors: Sequence[str] = (),
) -> Ballots:
    """The ballots of ``phase`` from the table of verdicts (other phases are skipped).

    ``questions`` and ``personas`` are all that may occur; every question has ``personas_per_question`` of the
    personas (all, if empty), the same for each pair and criterion. With a panel of ``judges`` the table says which of
    them gave a verdict; with ``anchors`` the other policies are not judged against each other.

    Raises:
        InputError: a verdict for an unknown question, persona, policy, pair or criterion; two verdicts for one
            question to one persona; a pair judged by other personas than the rest; a policy without any verdict.
    """
    table = verdicts.select(list(columns_of(judges))).to_pandas().astype("category")
    mine = table[(table["phase"] == phase).to_numpy(dtype=bool)]

    def place(field: str, known: Collection[str], what: str) -> NDArray[np.int64]:
        return _places(mine[field], known, what, source)

    pairs = judged_pairs(policies, anchors)
    pair_of = np.full((len(policies), len(policies)), -1, dtype=np.int64)
    for number, (one, other) in enumerate(pairs):
        pair_of[policies.index(one), policies.index(other)] = number
    a, b = (place(side, policies, "policy") for side in ("policy_a", "policy_b"))
    pair = pair_of[a, b]
    if (pair < 0).any():
        odd = int(np.argmax(pair < 0))
        raise InputError(
            f"phase {phase} has verdicts for a pair that the study does not ask for: "
            f"{policies[a[odd]]} against {policies[b[odd]]}",
            file=source,
            field="policy_a, policy_b",
            remedy="Two ledgers were mixed, or the order of the policies has changed. Judge the phase again.",
        )
    criterion = place("criterion", criteria, "criterion")
    question = place("question_id", questions, "test question")
    persona = place("persona_id", personas, "test persona")
    if judges:
        persona += len(personas) * place(JUDGE, judges, "judge")
    winner = np.array([*_WINNERS.values()])[place("winner", _WINNERS, "value of 'winner'")]
    first = np.array([1, -1])[place("first", "AB", "value of 'first'")]

    shape = (len(criteria), len(pairs), len(questions), len(personas) * max(1, len(judges)))
    flat = np.ravel_multi_index((criterion, pair, question, persona), shape)
    outcomes, shown = np.full(shape, MISSING, dtype=np.int8), np.zeros(shape, dtype=np.int8)
    times = np.bincount(flat, minlength=outcomes.size)
    if (times > 1).any():
        c, p, q, who = (int(place) for place in np.unravel_index(int(np.argmax(times > 1)), shape))
        x, y = pairs[p]
        raise InputError(
            f"phase {phase}: {int((times > 1).sum())} judgments have more than one verdict, the first of them "
            f"{x} against {y}, {criteria[c]}, question {questions[q]}, persona {personas[who % len(personas)]}",
            file=source,
            remedy="Two ledgers were mixed. Keep one of them, or judge the phase again.",
        )
    outcomes.reshape(-1)[flat], shown.reshape(-1)[flat] = winner, first
    ballots = Ballots(
        phase,
        tuple(policies),
        tuple(criteria),
        tuple(questions),
        tuple(personas),
        outcomes,
        shown,
        tuple(judges),
        tuple(anchors),
    )
    _check_policies(ballots, source)
    return _with_panels(ballots, (personas_per_question or len(personas)) * max(1, len(judges)), source)


def columns_of(judges: Sequence[str]) -> tuple[str, ...]:
    """The columns of verdicts that ballots are made from, with a panel of ``judges`` or (empty) one judge."""
    return (*COLUMNS, JUDGE) if judges else COLUMNS


def _check_policies(ballots: Ballots, source: str) -> None:
    judged = (ballots.outcomes != MISSING).any(axis=(0, 2, 3))
    for policy in ballots.policies:
        mine = [number for number, pair in enumerate(ballots.pairs) if policy in pair]
        if not judged[mine].any():
            raise InputError(
                f"phase {ballots.phase}: this policy has answers but no verdicts",
                file=source,
                field="policy",
                value=policy,
                remedy="Judge its pairs (modpo rerun DIR verdicts), or take it out of the phase.",
            )


def _with_panels(ballots: Ballots, per_question: int, source: str) -> Ballots:
    """Tell apart who was never to judge a question and who was but did not."""
    seen = ballots.outcomes != MISSING
    panel = seen.any(axis=(0, 1))
    if (crowded := panel.sum(axis=1) > per_question).any():
        question = int(np.argmax(crowded))
        by_cell = seen[:, :, question, :].reshape(-1, seen.shape[-1])
        usual = by_cell.sum(axis=0).argsort(kind="stable")[::-1][:per_question]
        strange = by_cell.copy()
        strange[:, usual] = False
        cell = int(np.argmax(strange.any(axis=1)))
        criterion, pair = divmod(cell, len(ballots.pairs))
        a, b = ballots.pairs[pair]
        who = ballots.personas[int(np.argmax(strange[cell])) % len(ballots.personas)]
        raise InputError(
            f"phase {ballots.phase}: {a} against {b} ({ballots.criteria[criterion]}) was judged by other personas than "
            f"the rest: {who} on question {ballots.questions[question]}",
            file=source,
            field="persona_id",
            remedy="Every pair needs the same personas on a question. Judge the pair again.",
        )
    if per_question == panel.shape[1]:
        return ballots
    # Which persona a short panel lacks cannot be known from verdicts alone; it lacks someone, which is what counts.
    for short in np.flatnonzero(panel.sum(axis=1) < per_question):
        absent = np.flatnonzero(~panel[short])[: per_question - int(panel[short].sum())]
        panel[short, absent] = True
    outcomes = np.where(panel[None, None], ballots.outcomes, NOT_ASKED).astype(np.int8)
    return replace(ballots, outcomes=outcomes)


def _places(column: pd.Series, known: Collection[str], what: str, source: str) -> NDArray[np.int64]:
    """Places among ``known`` of the values of a categorical ``column``."""
    of_category = pd.Index([*known]).get_indexer(column.cat.categories)
    found: NDArray[np.int64] = np.append(of_category, -1)[column.cat.codes]
    if (found < 0).any():
        value = column.iloc[int(np.argmax(found < 0))]
        raise InputError(
            f"there are verdicts for a {what} that this study does not have",
            file=source,
            field=str(column.name),
            value=None if pd.isna(value) else value,
            remedy="They belong to another study, or two ledgers were mixed. Judge again, or restore the ledger.",
        )
    return found
