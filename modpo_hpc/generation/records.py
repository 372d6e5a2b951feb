"""What is asked of a model, what comes back, and the two tables made from it."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

FinishReason = Literal["stop", "length", "content_filter"]
"""``content_filter`` is an endpoint's word for a text that it held back; models of our own have no such end."""

_TEXT = {
    "text": pa.string(),
    "tokens": pa.int32(),
    "finish_reason": pa.string(),
    "seed": pa.int64(),
    "flags": pa.list_(pa.string()),
}
RESPONSES = pa.schema({"question_id": pa.string(), "response_id": pa.string(), **_TEXT})
ANSWERS = pa.schema({"policy": pa.string(), "question_id": pa.string(), **_TEXT})

TRUNCATED, EMPTY, REPETITIVE, FILTERED = "truncated", "empty", "repetitive", "filtered"
_LEAST_CHARACTERS, _LOOP_RATIO = 200, 0.25


@dataclass(frozen=True)
class GenerationRequest:
    """One text to be made: the item's id, the question it answers, and the seed that belongs to the item."""

    id: str
    question_id: str
    question: str
    seed: int


@dataclass(frozen=True)
class Completion:
    """The text made for the request ``id``; ``tokens`` counts without the end-of-sequence token."""

    id: str
    text: str
    tokens: int
    finish_reason: FinishReason


def flags_of(text: str, finish_reason: str) -> list[str]:
    """What a reader should know of a text before trusting it: truncated, empty, repetitive, filtered.

    A text counts as repetitive when zlib shrinks its UTF-8 bytes below a quarter: prose of that length keeps about
    half of its bytes, a text that loops loses nearly all of them. Texts under 200 characters are too short to tell.
    """
    raw = text.encode()
    looping = len(raw) >= _LEAST_CHARACTERS and len(zlib.compress(raw, 9)) < _LOOP_RATIO * len(raw)
    conditions = {
        TRUNCATED: finish_reason == "length",
        EMPTY: not text.strip(),
        REPETITIVE: looping,
        FILTERED: finish_reason == "content_filter",
    }
    return [flag for flag, holds in conditions.items() if holds]


def count_flags(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Number of rows under each flag, zeros included."""
    counts = Counter(flag for row in rows for flag in row["flags"])
    return {flag: float(counts[flag]) for flag in (TRUNCATED, EMPTY, REPETITIVE, FILTERED)}


def row_of(request: GenerationRequest, completion: Completion) -> dict[str, Any]:
    """The columns that ``RESPONSES`` and ``ANSWERS`` share."""
    return {
        "question_id": request.question_id,
        "text": completion.text,
        "tokens": completion.tokens,
        "finish_reason": completion.finish_reason,
        "seed": request.seed,
        "flags": flags_of(completion.text, completion.finish_reason),
    }
