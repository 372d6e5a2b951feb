"""Verdicts become arrays; what does not belong together is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.evaluation import ballots
from modpo_hpc.evaluation.completeness import completeness, refuse_incomplete
from tests.synthetic_verdicts import STRENGTH, VERDICTS, judged

POLICIES, CRITERIA = ("Base", "DPO_Empathy", "MODPO_Empathy"), ("empathy", "safety")
QUESTIONS, PERSONAS = [f"q{k}" for k in range(6)], [f"p{k}" for k in range(5)]

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return judged(STRENGTH, "phase1", POLICIES, CRITERIA, QUESTIONS, PERSONAS, unparsed=0.1, ties=0.1).to_pylist()


def collect(rows: list[Row], **options: Any) -> ballots.Ballots:
    table = pa.Table.from_pylist(rows, schema=VERDICTS)
    return ballots.collect(table, "phase1", POLICIES, CRITERIA, QUESTIONS, PERSONAS, **options)


def test_every_verdict_stands_in_its_place(rows: list[Row]) -> None:
    found = collect(rows)
    code = {"A": 1, "B": -1, "tie": 0, "unparsed": ballots.UNPARSED}
    for row in rows:
        place = (
            CRITERIA.index(row["criterion"]),
            found.pairs.index((row["policy_a"], row["policy_b"])),
            QUESTIONS.index(row["question_id"]),
            PERSONAS.index(row["persona_id"]),
        )
        assert found.outcomes[place] == code[row["winner"]]
        assert found.first[place] == (1 if row["first"] == "A" else -1)
    assert (found.votes[found.outcomes == ballots.UNPARSED] == 0).all()


def test_row_order_shards_and_encoding_do_not_matter(rows: list[Row]) -> None:
    shuffled = [rows[k] for k in np.random.default_rng(0).permutation(len(rows))]
    plain = pa.schema([(name, pa.string()) for name in VERDICTS.names])
    halves = [pa.Table.from_pylist(part, schema=VERDICTS) for part in (shuffled[:50], shuffled[50:])]
    other = {**rows[0], "phase": "phase2", "policy_a": "Nobody", "question_id": "elsewhere"}
    for table in (
        pa.concat_tables(halves),
        pa.Table.from_pylist(shuffled, schema=plain),
        pa.Table.from_pylist([other, *shuffled], schema=VERDICTS),
    ):
        found = ballots.collect(table, "phase1", POLICIES, CRITERIA, QUESTIONS, PERSONAS)
        np.testing.assert_array_equal(found.outcomes, collect(rows).outcomes)


def unknown_question(rows: list[Row]) -> list[Row]:
    return [*rows[1:], {**rows[0], "question_id": "q99"}]


def unknown_persona(rows: list[Row]) -> list[Row]:
    return [*rows[1:], {**rows[0], "persona_id": "somebody"}]


def foreign_policy(rows: list[Row]) -> list[Row]:
    return [*rows, {**rows[0], "policy_b": "DPO_Soup"}]


def other_order(rows: list[Row]) -> list[Row]:
    return [*rows, {**rows[0], "policy_a": rows[0]["policy_b"], "policy_b": rows[0]["policy_a"]}]


def second_ledger(rows: list[Row]) -> list[Row]:
    return [*rows, {**rows[3], "winner": "tie", "key": "another"}]


def strange_winner(rows: list[Row]) -> list[Row]:
    return [{**rows[0], "winner": "C"}, *rows[1:]]


def unjudged_policy(rows: list[Row]) -> list[Row]:
    return [row for row in rows if "MODPO_Empathy" not in (row["policy_a"], row["policy_b"])]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (unknown_question, "'q99'"),
        (unknown_persona, "'somebody'"),
        (foreign_policy, "'DPO_Soup'"),
        (other_order, "DPO_Empathy against Base"),
        (second_ledger, "question q0, persona p3"),
        (strange_winner, "'C'"),
        (unjudged_policy, "'MODPO_Empathy'"),
    ],
)
def test_what_does_not_belong_is_named_and_refused(
    rows: list[Row], spoil: Callable[[list[Row]], list[Row]], named: str
) -> None:
    with pytest.raises(InputError) as refused:
        collect(spoil(rows), source="RUN")
    assert named in str(refused.value)
    assert str(refused.value).startswith("RUN")


def test_a_pair_judged_by_other_personas_is_refused(rows: list[Row]) -> None:
    panel = [row for row in rows if row["persona_id"] in ("p0", "p1", "p2")]
    assert collect(panel, personas_per_question=3).outcomes.shape[-1] == 5
    swapped = [
        {**row, "persona_id": "p4"}
        if (row["policy_b"], row["question_id"], row["persona_id"], row["criterion"])
        == ("MODPO_Empathy", "q2", "p1", "safety")
        else row
        for row in panel
    ]
    with pytest.raises(InputError, match="judged by other personas than the rest: p4 on question q2"):
        collect(swapped, personas_per_question=3)


def test_personas_that_were_not_asked_are_not_missing(rows: list[Row]) -> None:
    rotating = [
        row for row in rows if (QUESTIONS.index(row["question_id"]) + PERSONAS.index(row["persona_id"])) % 5 < 3
    ]
    cells = completeness(collect(rotating, personas_per_question=3))
    assert all(cell.asked == 3 * len(QUESTIONS) and cell.missing == 0 for cell in cells)


def test_missing_and_unparsed_are_counted_in_their_cell(rows: list[Row]) -> None:
    gone = [
        row
        for row in rows
        if not (row["policy_a"] == "Base" and row["policy_b"] == "DPO_Empathy" and row["question_id"] in ("q1", "q2"))
    ]
    cells = completeness(collect(gone))
    by_key = {(cell.criterion, cell.policy_a, cell.policy_b): cell for cell in cells}
    hit = by_key["empathy", "Base", "DPO_Empathy"]
    assert (hit.asked, hit.missing) == (30, 10)
    assert by_key["empathy", "Base", "MODPO_Empathy"].missing == 0
    for cell in cells:
        unparsed = sum(
            row["winner"] == "unparsed"
            for row in gone
            if (row["criterion"], row["policy_a"], row["policy_b"]) == (cell.criterion, cell.policy_a, cell.policy_b)
        )
        assert cell.unparsed == unparsed
        assert cell.asked == cell.cast + cell.unparsed + cell.missing


def test_a_whole_question_without_verdicts_is_missing_even_with_short_panels(rows: list[Row]) -> None:
    kept = [row for row in rows if row["persona_id"] in ("p0", "p1", "p2") and row["question_id"] != "q3"]
    cells = completeness(collect(kept, personas_per_question=3))
    assert all(cell.asked == 18 and cell.missing == 3 for cell in cells)


def test_the_gate_closes_above_the_bound_only(rows: list[Row]) -> None:
    cells = completeness(collect([row for row in rows if row["winner"] != "unparsed"]))
    worst = max(cell.lost for cell in cells)
    refuse_incomplete(cells, worst, "RUN")
    with pytest.raises(IncompleteError, match=r"missing and 0 unparsed of 30.*modpo rerun RUN verdicts"):
        refuse_incomplete(cells, worst - 1e-9, "RUN")
