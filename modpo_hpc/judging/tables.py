"""The tables of judging: rankings, pairs, verdicts; their schemas, and how judgments become rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import pyarrow as pa

from modpo_hpc.judging.opinions import Judgment
from modpo_hpc.judging.tasks import Opinion, Unparsed

_NAME = pa.dictionary(pa.int32(), pa.string())

RANKINGS = pa.schema(
    [
        ("question_id", _NAME),
        ("persona_id", _NAME),
        ("criterion", _NAME),
        ("order", pa.list_(pa.string())),
        ("shown", pa.list_(pa.string())),
        ("state", _NAME),
        ("reason", _NAME),
        ("key", pa.string()),
    ]
)
"""``order``: response ids, best first, empty if unparsed. ``shown``: in the order shown. ``key``: of the raw answer."""

PAIRS = pa.schema(
    [
        ("criterion", _NAME),
        ("question_id", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("responses", pa.list_(pa.string())),
        ("votes", pa.list_(pa.int32())),
        ("margin", pa.int32()),
    ]
)
"""``votes``: the score of each of ``responses``; ``margin``: the chosen one's less the rejected one's."""

VERDICTS = pa.schema(
    [
        ("phase", _NAME),
        ("policy_a", _NAME),
        ("policy_b", _NAME),
        ("question_id", _NAME),
        ("persona_id", _NAME),
        ("criterion", _NAME),
        ("winner", _NAME),
        ("first", _NAME),
        ("reason", _NAME),
        ("key", pa.string()),
    ]
)
"""``winner``: "A" (the first policy of the pair), "B", "tie", "unparsed", or "not_asked" after a stop.
``first``: which of the two was shown first. ``key``: of the raw answer, none if it was not asked for."""

_ASKED = (pa.field("sample", pa.int32()), pa.field("swapped", pa.bool_()))

JUDGE = pa.field("judge", _NAME)
"""The column that tables of a panel have besides: who among the judges."""


@dataclass(frozen=True, slots=True)
class RankingPlace:
    """Where a ranking belongs: question, persona, response ids in the order shown, and the criteria of the call."""

    question_id: str
    persona_id: str
    shown: tuple[str, ...]
    criteria: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VerdictPlace:
    """Where a verdict belongs, whether policy A was shown first, and the criteria that the call asks about."""

    question_id: str
    persona_id: str
    a_first: bool
    criteria: tuple[str, ...]


Place = TypeVar("Place", RankingPlace, VerdictPlace)


def rankings_table(places: Sequence[RankingPlace], judgments: Sequence[Judgment]) -> pa.Table:
    """One row for each place and criterion, those of one call after those of the other."""

    def columns(places: Sequence[RankingPlace], opinions: Sequence[Opinion | None]) -> dict[str, list[Any]]:
        return {
            "order": [
                [place.shown[position] for position in opinion] if isinstance(opinion, tuple) else []
                for place, opinion in zip(places, opinions, strict=True)
            ],
            "shown": [place.shown for place in places],
            "state": ["unparsed" if isinstance(opinion, Unparsed) else "ok" for opinion in opinions],
        }

    return _table_of_calls(places, judgments, RANKINGS, columns)


def verdicts_table(
    phase: str,
    policy_a: str,
    policy_b: str,
    places: Sequence[VerdictPlace],
    judgments: Sequence[Judgment | None],
) -> pa.Table:
    """One row for each place and criterion; what the judge called A and B is turned back into policies."""

    def columns(places: Sequence[VerdictPlace], opinions: Sequence[Opinion | None]) -> dict[str, list[Any]]:
        return {
            "phase": [phase] * len(places),
            "policy_a": [policy_a] * len(places),
            "policy_b": [policy_b] * len(places),
            "winner": [
                "not_asked" if opinion is None else policy_of(opinion, place.a_first)
                for place, opinion in zip(places, opinions, strict=True)
            ],
            "first": ["A" if place.a_first else "B" for place in places],
        }

    return _table_of_calls(places, judgments, VERDICTS, columns)


def _table_of_calls(
    places: Sequence[Place],
    judgments: Sequence[Judgment | None],
    schema: pa.Schema,
    columns: Callable[[Sequence[Place], Sequence[Opinion | None]], dict[str, list[Any]]],
) -> pa.Table:
    """The table of one call after that of the other; ``columns`` gets place and opinion of each row of a call."""
    parts = []
    for criteria, call in groupby(zip(places, judgments, strict=True), key=lambda one: one[0].criteria):
        asked, nothing = list(call), (None,) * len(criteria)
        places_of_rows = [place for place, _ in asked for _ in criteria]
        opinions = [one for _, judgment in asked for one in (judgment.opinions if judgment else nothing)]
        keys = [key for _, judgment in asked for key in (judgment.keys if judgment else nothing)]
        found = {
            "question_id": [place.question_id for place in places_of_rows],
            "persona_id": [place.persona_id for place in places_of_rows],
            "criterion": list(criteria) * len(asked),
            "reason": [opinion.reason if isinstance(opinion, Unparsed) else None for opinion in opinions],
            "key": [key and key.hex() for key in keys],
            **columns(places_of_rows, opinions),
        }
        # as plain text first: names are looked up much faster so
        plain = pa.schema([(field.name, pa.string() if field.type == _NAME else field.type) for field in schema])
        parts.append(pa.table(found, schema=plain).cast(schema))
    return pa.concat_tables(parts).unify_dictionaries()


def with_judges(tables: Sequence[pa.Table], panel: Sequence[str]) -> pa.Table:
    """The tables of all judges in one; those of a ``panel`` with the column ``judge``."""
    if not panel:
        (table,) = tables
        return table
    return pa.concat_tables(
        _with_column(table, JUDGE, name) for name, table in zip(panel, tables, strict=True)
    ).unify_dictionaries()


def as_asked(verdicts: pa.Table, sample: int, swapped: bool) -> pa.Table:
    """``verdicts`` with the columns that repeats have besides: which time it was that the same was asked.

    0 is the first, that of the table of verdicts unless it is ``swapped``: shown in the other order.
    """
    for field, value in zip(_ASKED, (sample, swapped), strict=True):
        verdicts = _with_column(verdicts, field, value)
    return verdicts


def policy_of(opinion: Opinion, a_first: bool) -> str:
    """The policy that an opinion on two answers prefers: "A", "B", "tie", or "unparsed".

    The judge's A is the answer that it was shown first, which is that of policy B unless ``a_first``.
    """
    if isinstance(opinion, Unparsed):
        return "unparsed"
    if opinion == "tie" or a_first:
        return str(opinion)
    return "B" if opinion == "A" else "A"


def _with_column(table: pa.Table, field: pa.Field, value: str | int) -> pa.Table:
    return table.append_column(field, pa.array([value] * table.num_rows, field.type))
