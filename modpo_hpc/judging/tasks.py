"""The tasks of a persona: rank the responses to a question, compare two answers to it, choose one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

Task = Literal["rank", "judge", "choose"]
Side = Literal["A", "B", "tie"]
SIDES: dict[Task, tuple[Side, ...]] = {"judge": ("A", "B", "tie"), "choose": ("A", "B")}
"""What may be said of two answers; who chooses must choose."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """What a persona judges by. ``better`` and ``worse`` are empty where the persona is not to be primed."""

    name: str
    title: str
    definition: str
    better: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Persona:
    """Whose eyes a judge looks through. ``importance``: survey ratings (1 to 5) by criterion; some are absent."""

    persona_id: str
    text: str
    importance: Mapping[str, float]

    def __hash__(self) -> int:
        return hash((self.persona_id, self.text))


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """One question to a judge: how would ``persona`` see the texts ``shown``, in this order, by each criterion.

    ``rank`` shows several responses, numbered from 1; ``judge`` and ``choose`` show two, called A and B. ``sample``
    tells apart the times that the same is asked.
    """

    task: Task
    persona: Persona
    criteria: tuple[Criterion, ...]
    question_id: str
    question: str
    shown: tuple[str, ...]
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Unparsed:
    """Why an answer says nothing about a criterion."""

    reason: str


Ranking = tuple[int, ...]
"""Positions in ``JudgeRequest.shown``, counted from 0, best first."""

Opinion = Ranking | Side | Unparsed
"""What one answer says about one criterion: a ``Ranking`` for ``rank``, a ``Side`` otherwise."""


def answer_schema(request: JudgeRequest) -> dict[str, Any]:
    """JSON schema of the answer to ``request``: one field a criterion, nothing else.

    The subset that structured output allows cannot say "a permutation"; ``parse_answer`` checks that.
    """
    if request.task == "rank":
        count = len(request.shown)
        numbers = {"type": "integer", "enum": list(range(1, count + 1))}
        field: dict[str, Any] = {"type": "array", "items": numbers, "minItems": count, "maxItems": count}
    else:
        field = {"type": "string", "enum": list(SIDES[request.task])}
    names = [criterion.name for criterion in request.criteria]
    return {
        "type": "object",
        "properties": {name: field for name in names},
        "required": names,
        "additionalProperties": False,
    }


def parse_answer(
    raw: str, task: Task, criteria: tuple[str, ...], shown: int, finish: str | None = None
) -> tuple[Opinion, ...]:
    """What the raw answer ``raw`` says about each of ``criteria``, in their order.

    The answer is the JSON object in the text that names a criterion: models wrap it in fences, in politeness. What
    stands before the end of a thought (``</think>``) is a draft, and a line that begins with "| " is a quotation.
    Nothing is guessed: an answer that was cut off (``finish`` is "length") says nothing; a criterion about which two
    objects differ is ``Unparsed``; a ranking is a permutation of the numbers 1 to ``shown``, a side is exactly one of
    ``SIDES[task]``; whatever else is ``Unparsed``, with the reason.
    """
    if finish == "length":
        return (Unparsed("cut off at the most tokens allowed"),) * len(criteria)
    return _parse(raw, task, criteria, shown)


@lru_cache(maxsize=8192)
def _parse(raw: str, task: Task, criteria: tuple[str, ...], shown: int) -> tuple[Opinion, ...]:
    answers = _answer_objects(_without_drafts(raw), criteria)
    if not answers:
        reason = "empty answer" if not raw.strip() else "no JSON object with a criterion in it"
        return (Unparsed(reason),) * len(criteria)
    opinions = []
    for name in criteria:
        stated = [fields[name] for fields in answers if name in fields] or [_ABSENT]
        differ = any(one != stated[0] for one in stated)
        opinions.append(Unparsed("two answers that differ") if differ else _opinion(stated[0], task, shown))
    return tuple(opinions)


def _without_drafts(raw: str) -> str:
    _, closed, final = raw.rpartition("</think>")
    text = final if closed else raw.partition("<think>")[0]
    return "\n".join(line for line in text.split("\n") if not line.startswith("| "))


_ABSENT = Unparsed("criterion absent")
_TWICE = Unparsed("criterion given twice")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        fields.update({name: _TWICE for name in fields if names.count(name) > 1})
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _answer_objects(text: str, criteria: tuple[str, ...]) -> list[dict[str, Any]]:
    found, start = [], text.find("{")
    while start >= 0:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if any(name in value for name in criteria):
                found.append(value)
        start = text.find("{", end)
    return found


def _opinion(value: Any, task: Task, shown: int) -> Opinion:
    if isinstance(value, Unparsed):
        return value
    if task != "rank":
        *others, last = SIDES[task]
        return value if value in SIDES[task] else Unparsed(f"not {', '.join(others)} or {last}")
    if not isinstance(value, list) or any(type(one) is not int for one in value):
        return Unparsed("not a list of numbers")
    if sorted(value) != list(range(1, shown + 1)):
        return Unparsed("not a permutation of the numbers")
    return tuple(one - 1 for one in value)
