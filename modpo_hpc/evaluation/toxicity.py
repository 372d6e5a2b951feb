"""Toxicity of the answers: what is assessed, what comes out, and what a backend does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import pyarrow as pa

from modpo_hpc.data.questions import study_questions
from modpo_hpc.run import Run, Shard

SCHEMA = pa.schema(
    [
        pa.field("backend", pa.string(), nullable=False),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("toxic", pa.bool_()),
        pa.field("score", pa.float64()),
        pa.field("attributes", pa.map_(pa.string(), pa.float64())),
        pa.field("raw", pa.string(), nullable=False),
    ]
)
"""One row an answer and backend. ``state`` is ok, unparsed (what the model said is neither) or refused (by the API)."""


@dataclass(frozen=True)
class Item:
    """An answer to assess, and the post that it answers."""

    question_id: str
    question: str
    answer: str


@dataclass(frozen=True)
class Assessment:
    """What a backend made of one answer. ``score`` is a probability; None where a backend only says yes or no."""

    state: Literal["ok", "unparsed", "refused"]
    toxic: bool | None
    score: float | None
    raw: str
    attributes: Mapping[str, float] = field(default_factory=dict)


class Assessor(Protocol):
    """Assesses answers, in their order."""

    def assess(self, items: Sequence[Item]) -> list[Assessment]: ...


def answers_of(run: Run, policy: str) -> list[Item]:
    """The answers of ``policy`` to every test question, in the canonical order of the questions.

    Raises:
        IncompleteError: an answer's shard is missing.
    """
    shard_ids = [shard for shard in run.shard_ids("answers") if shard.rpartition(".")[0] == policy]
    answers = run.table("answers", ["question_id", "text"], shard_ids).to_pylist()
    texts = {one["question_id"]: one["text"] for one in answers}
    return [
        Item(one.question_id, one.text, texts[one.question_id])
        for one in study_questions(run, "test")
        if one.question_id in texts
    ]


def assess_shard(
    shard: Shard, items: Sequence[Item], open_assessor: Callable[[], Assessor], batch_size: int
) -> list[dict[str, Any]]:
    """Assess ``items`` batch by batch, each saved as it is done; a later attempt goes on after the last saved one.

    Returns:
        One mapping for each item, in order: question_id and the fields of ``Assessment``.
    """
    with shard.journal("assessments.jsonl") as journal:
        saved = {row["question_id"]: row for row in journal.rows}
        left = [item for item in items if item.question_id not in saved]
        shard.progress(len(items) - len(left), len(items), "answers")
        assessor: Assessor | None = None
        for start in range(0, len(left), batch_size):
            shard.check()
            assessor = assessor or open_assessor()
            batch = left[start : start + batch_size]
            rows = [
                {"question_id": item.question_id, **vars(made), "attributes": dict(made.attributes)}
                for item, made in zip(batch, assessor.assess(batch), strict=True)
            ]
            journal.append(rows)
            saved.update({row["question_id"]: row for row in rows})
            shard.progress(len(saved), len(items), "answers")
    return [saved[item.question_id] for item in items]
