"""Verdicts as arrays: one cube a phase, checked against what the study asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
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
    names = columns_of(judges)
    table = verdicts.select(list(names))
    codes = {name: _encoded(table, name) for name in names}
    mine = codes["phase"][0] == codes["phase"][1].get(phase, -1)
    columns = {name: (code[mine], labels) for name, (code, labels) in codes.items()}

    pairs = judged_pairs(policies, anchors)
    pair_of = np.full((len(policies), len(policies)), -1, dtype=np.int64)
    for number, (one, other) in enumerate(pairs):
        pair_of[policies.index(one), policies.index(other)] = number
    a = _positions(columns["policy_a"], policies, "policy_a", "policy", source)
    b = _positions(columns["policy_b"], policies, "policy_b", "policy", source)
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
    criterion = _positions(columns["criterion"], criteria, "criterion", "criterion", source)
    question = _positions(columns["question_id"], questions, "question_id", "test question", source)
    persona = _positions(columns["persona_id"], personas, "persona_id", "test persona", source)
    if judges:
        persona += len(personas) * _positions(columns[JUDGE], judges, JUDGE, "judge", source)
    winner = _translated(columns["winner"], _WINNERS, "winner", source)
    first = _translated(columns["first"], {"A": 1, "B": -1}, "first", source)

    shape = (len(criteria), len(pairs), len(questions), len(personas) * max(1, len(judges)))
    flat = np.ravel_multi_index((criterion, pair, question, persona), shape)
    outcomes, shown = np.full(shape, MISSING, dtype=np.int8), np.zeros(shape, dtype=np.int8)
    times = np.bincount(flat, minlength=outcomes.size) if flat.size else np.zeros(outcomes.size, dtype=np.int64)
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


def _encoded(table: pa.Table, name: str) -> tuple[NDArray[np.int64], dict[str, int]]:
    column = table.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], pa.string()).dictionary_encode()
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, {label: code for code, label in enumerate(whole.dictionary.to_pylist())}


def _positions(
    column: tuple[NDArray[np.int64], Mapping[str, int]],
    known: Sequence[str],
    field: str,
    what: str,
    source: str,
) -> NDArray[np.int64]:
    codes, labels = column
    place = {label: number for number, label in enumerate(known)}
    positions = np.full(len(labels) + 1, -1, dtype=np.int64)
    for label, code in labels.items():
        positions[code] = place.get(label, -1)
    found = positions[codes]
    if (found < 0).any():
        code = int(codes[int(np.argmax(found < 0))])
        value = next((label for label, one in labels.items() if one == code), None)
        raise InputError(
            f"there are verdicts for a {what} that this study does not have",
            file=source,
            field=field,
            value=value,
            remedy="They belong to another study, or two ledgers were mixed. Judge again, or restore the ledger.",
        )
    return found


def _translated(
    column: tuple[NDArray[np.int64], Mapping[str, int]], values: Mapping[str, int], field: str, source: str
) -> NDArray[np.int8]:
    positions = _positions(column, list(values), field, f"value of {field!r}", source)
    return np.array(list(values.values()), dtype=np.int8)[positions]
