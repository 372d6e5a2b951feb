"""The tables of judging: rankings, pairs, verdicts; their schemas, and how judgments become rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
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


def rankings_table(places: Sequence[RankingPlace], judgments: Sequence[Judgment]) -> pa.Table:
    """One row for each place and criterion, those of one call after those of the other."""
    parts, start = [], 0
    for criteria, places_of in groupby(places, key=lambda place: place.criteria):
        mine = list(places_of)
        parts.append(_rankings_of_call(mine, criteria, judgments[start : start + len(mine)]))
        start += len(mine)
    return pa.concat_tables(parts).unify_dictionaries() if len(parts) > 1 else parts[0]


def _rankings_of_call(
    places: Sequence[RankingPlace], criteria: Sequence[str], judgments: Sequence[Judgment]
) -> pa.Table:
    width = len(criteria)
    opinions = [opinion for judgment in judgments for opinion in judgment.opinions]
    shown_ids = [identity for place in places for identity in place.shown]
    lengths = np.array([len(place.shown) for place in places], dtype=np.int64)
    starts = np.repeat(np.cumsum(lengths) - lengths, width)
    ranked = [() if isinstance(opinion, Unparsed) else opinion for opinion in opinions]
    flat = np.fromiter((position for one in ranked for position in one), dtype=np.int64)
    ranked_lengths = np.array([len(one) for one in ranked], dtype=np.int64)
    flat += np.repeat(starts, ranked_lengths)
    ids = pa.array(shown_ids, pa.string())
    row_lengths = np.repeat(lengths, width)
    shown_flat = np.arange(row_lengths.sum()) - np.repeat(np.cumsum(row_lengths) - row_lengths, row_lengths)
    shown_flat += np.repeat(starts, row_lengths)
    reasons = [opinion.reason if isinstance(opinion, Unparsed) else None for opinion in opinions]
    return pa.table(
        {
            "question_id": _repeated([place.question_id for place in places], width),
            "persona_id": _repeated([place.persona_id for place in places], width),
            "criterion": _cycled(criteria, len(places)),
            "order": _lists(ids, flat, ranked_lengths),
            "shown": _lists(ids, shown_flat, row_lengths),
            "state": _names(["ok" if reason is None else "unparsed" for reason in reasons]),
            "reason": _names(reasons),
            "key": pa.array([key.hex() for judgment in judgments for key in judgment.keys], pa.string()),
        },
        schema=RANKINGS,
    )


def verdicts_table(
    phase: str,
    policy_a: str,
    policy_b: str,
    places: Sequence[VerdictPlace],
    judgments: Sequence[Judgment | None],
) -> pa.Table:
    """One row for each place and criterion; what the judge called A and B is turned back into policies."""
    parts, start = [], 0
    for criteria, places_of in groupby(places, key=lambda place: place.criteria):
        mine = list(places_of)
        heard = judgments[start : start + len(mine)]
        parts.append(_verdicts_of_call(phase, policy_a, policy_b, mine, criteria, heard))
        start += len(mine)
    return pa.concat_tables(parts).unify_dictionaries() if len(parts) > 1 else parts[0]


def _verdicts_of_call(
    phase: str,
    policy_a: str,
    policy_b: str,
    places: Sequence[VerdictPlace],
    criteria: Sequence[str],
    judgments: Sequence[Judgment | None],
) -> pa.Table:
    width, rows = len(criteria), len(places) * len(criteria)
    winners: list[str] = []
    reasons: list[str | None] = []
    keys: list[str | None] = []
    for place, judgment in zip(places, judgments, strict=True):
        if judgment is None:
            winners += ["not_asked"] * width
            reasons += [None] * width
            keys += [None] * width
            continue
        winners += [policy_of(opinion, place.a_first) for opinion in judgment.opinions]
        reasons += [opinion.reason if isinstance(opinion, Unparsed) else None for opinion in judgment.opinions]
        keys += [key.hex() for key in judgment.keys]
    return pa.table(
        {
            "phase": _cycled([phase], rows),
            "policy_a": _cycled([policy_a], rows),
            "policy_b": _cycled([policy_b], rows),
            "question_id": _repeated([place.question_id for place in places], width),
            "persona_id": _repeated([place.persona_id for place in places], width),
            "criterion": _cycled(criteria, len(places)),
            "winner": _names(winners),
            "first": _repeated(["A" if place.a_first else "B" for place in places], width),
            "reason": _names(reasons),
            "key": pa.array(keys, pa.string()),
        },
        schema=VERDICTS,
    )


def with_judges(tables: Sequence[pa.Table], panel: Sequence[str]) -> pa.Table:
    """The tables of all judges in one; those of a ``panel`` with the column ``judge``."""
    if not panel:
        (table,) = tables
        return table
    return pa.concat_tables(
        table.append_column(JUDGE, _cycled([name], table.num_rows)) for name, table in zip(panel, tables, strict=True)
    ).unify_dictionaries()


def as_asked(verdicts: pa.Table, sample: int, swapped: bool) -> pa.Table:
    """``verdicts`` with the columns that repeats have besides: which time it was that the same was asked.

    0 is the first, that of the table of verdicts unless it is ``swapped``: shown in the other order.
    """
    for field, value in zip(_ASKED, (sample, swapped), strict=True):
        verdicts = verdicts.append_column(field, pa.repeat(pa.scalar(value, field.type), verdicts.num_rows))
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


def _names(values: Sequence[str | None]) -> Any:
    return pa.array(values, pa.string()).dictionary_encode().cast(_NAME)


def _repeated(values: Sequence[str], times: int) -> Any:
    encoded = _names(values)
    return pa.DictionaryArray.from_arrays(np.repeat(encoded.indices.to_numpy(), times), encoded.dictionary)


def _cycled(values: Sequence[str], times: int) -> Any:
    encoded = _names(values)
    return pa.DictionaryArray.from_arrays(np.tile(encoded.indices.to_numpy(), times), encoded.dictionary)


def _lists(ids: pa.Array, positions: np.ndarray, lengths: np.ndarray) -> Any:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, ids.take(pa.array(positions, pa.int64())))
