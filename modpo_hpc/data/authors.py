"""The file formats of the paper's data: read with every fault named, and written the same way.

    train_personas.json, test_personas.json    {persona id: text}
    all_personas.json                          the same with population, demographics and ratings (optional)
    questions_train.csv, questions_test.csv    question_id, question_text
    responses_train.csv                        question_id, question_text, response_id, response_text
    <criterion>_pairs.json                     [{question_id, question_text, chosen, rejected}]
    <criterion>_rankings.json                  [{question_id, question_text, ranking: [{rank, response_id, ...}]}]
    <model>_responses.csv                      question_id, question_text, response_text, model_name

What the formats do not hold (tokens, seeds, votes) travels in further columns and keys, which other readers ignore.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from modpo_hpc.data.files import read_csv, read_json
from modpo_hpc.errors import InputError

Kind = Literal["personas", "all_personas", "questions", "responses", "pairs", "rankings", "answers"]
FORMATS = "Known are: train_/test_personas.json, all_personas.json, questions_train/test.csv, responses_train.csv, \
<criterion>_pairs.json, <criterion>_rankings.json, <model>_responses.csv."


@dataclass(frozen=True)
class Response:
    """A response to a training question, or a model's answer to a test question."""

    question_id: str
    question: str
    text: str
    response_id: str = ""
    model: str = ""
    tokens: int | None = None
    finish_reason: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Ranked:
    """The responses to one question under one criterion, best first; all of them, or the best and the worst alone."""

    question_id: str
    question: str
    response_ids: tuple[str, ...]
    texts: tuple[str, ...]
    votes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class AuthorsPersona:
    """A persona's text, and what all_personas.json says of the person (empty where that file is not given)."""

    persona_id: str
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)


def kind_of(path: Path) -> Kind:
    """Which of the formats ``path`` is in, by its name and, for CSV files, its header.

    Raises:
        InputError: none of them.
    """
    name = path.name.lower()
    for ending, kind in (
        ("all_personas.json", "all_personas"),
        ("_personas.json", "personas"),
        ("_pairs.json", "pairs"),
        ("_rankings.json", "rankings"),
    ):
        if name.endswith(ending):
            return kind  # type: ignore[return-value]
    if name.endswith(".csv"):
        header = set(read_csv(path).header)
        if {"question_id", "response_text", "model_name"} <= header:
            return "answers"
        if {"question_id", "response_id", "response_text"} <= header:
            return "responses"
        if {"question_id", "question_text"} <= header:
            return "questions"
        raise InputError(
            "its header is that of no known format",
            file=path,
            value=", ".join(sorted(header))[:100],
            remedy="Questions have question_id, question_text; responses also response_id, response_text; answers "
            "response_text, model_name.",
        )
    raise InputError("this file is in no known format", file=path, remedy=FORMATS)


def read_personas(path: Path) -> dict[str, str]:
    """Persona id -> text."""
    raw = read_json(path, dict)
    for identity, text in raw.items():
        if not isinstance(text, str) or not text.strip():
            raise InputError("this persona has no text", file=path, field=identity, remedy="Give its text as a string.")
    if not raw:
        raise InputError("the file holds no personas", file=path, remedy="Give a mapping of id to text.")
    return raw


def read_details(path: Path) -> dict[str, dict[str, Any]]:
    """Persona text -> what all_personas.json says of the person."""
    raw = read_json(path, dict)
    found = {}
    for part in ("train_personas", "test_personas"):
        for place, entry in enumerate(raw.get(part, [])):
            if not isinstance(entry, dict) or not isinstance(entry.get("persona_text"), str):
                raise InputError("persona_text is missing", file=path, field=f"{part}[{place}]", remedy="Add it.")
            found[entry["persona_text"]] = entry
    return found


def read_questions(path: Path) -> dict[str, str]:
    """Question id -> text."""
    found: dict[str, str] = {}
    for line, row in _rows(path, ("question_id", "question_text")):
        if row["question_id"] in found:
            raise InputError(
                f"line {line}: this question occurs twice",
                file=path,
                field="question_id",
                value=row["question_id"],
                remedy="Keep one of them.",
            )
        found[row["question_id"]] = row["question_text"]
    return found


def read_responses(path: Path) -> list[Response]:
    """The responses of a CSV with response_id, or the answers of one with model_name."""
    answers = kind_of(path) == "answers"
    extra = "model_name" if answers else "response_id"
    needed = ("question_id", "question_text", "response_text", extra)
    found: dict[tuple[str, str], Response] = {}
    for line, row in _rows(path, needed, may_be_empty="response_text"):
        key = row["question_id"], row[extra]
        if key in found:
            raise InputError(
                f"line {line}: {extra} {key[1]!r} occurs twice for this question",
                file=path,
                field="question_id",
                value=key[0],
                remedy="Keep one of them.",
            )
        found[key] = Response(
            question_id=row["question_id"],
            question=row["question_text"],
            text=row["response_text"],
            response_id="" if answers else row[extra],
            model=row[extra] if answers else "",
            tokens=_number(row, "tokens", path, line),
            finish_reason=row.get("finish_reason") or None,
            seed=_number(row, "seed", path, line),
        )
    return [*found.values()]


def read_ranked(path: Path) -> list[Ranked]:
    """The entries of a pairs or a rankings file."""
    pairs = kind_of(path) == "pairs"
    found: list[Ranked] = []
    seen: set[str] = set()
    for place, entry in enumerate(read_json(path, list)):
        where = f"[{place}]"
        question_id = str(_part(entry, "question_id", (str, int), path, where))
        question = str(_part(entry, "question_text", (str,), path, where))
        if question_id in seen:
            raise InputError(
                "this question occurs twice", file=path, field=where, value=question_id, remedy="Keep one."
            )
        seen.add(question_id)
        if pairs:
            ordered = [(_part(entry, side, (dict,), path, where), f"{where}.{side}") for side in ("chosen", "rejected")]
        else:
            listed = _part(entry, "ranking", (list,), path, where)
            ordered = [(one, f"{where}.ranking[{rank}]") for rank, one in enumerate(listed)]
            ranks = [_part(one, "rank", (int,), path, at) for one, at in ordered]
            if sorted(ranks) != list(range(1, len(ranks) + 1)) or len(ranks) < 2:
                raise InputError(
                    "the ranks are not 1, 2, ... once each",
                    file=path,
                    field=f"{where}.ranking",
                    remedy="Give every response of the question a rank of its own.",
                )
            ordered = [one for _, one in sorted(zip(ranks, ordered, strict=True), key=lambda both: both[0])]
        ids = tuple(str(_part(one, "response_id", (str, int), path, at)) for one, at in ordered)
        texts = tuple(str(_part(one, "response_text", (str,), path, at)) for one, at in ordered)
        if len(set(ids)) != len(ids):
            raise InputError("a response occurs twice", file=path, field=where, remedy="Each response has one place.")
        votes = tuple(one.get("votes") for one, _ in ordered)
        whole = all(isinstance(vote, int) for vote in votes)
        found.append(Ranked(question_id, question, ids, texts, votes if whole else None))
    if not found:
        raise InputError("the file holds no entries", file=path, remedy="Give a list of at least one question.")
    return found


def write_json(stream: IO[str], content: Any) -> None:
    """``content`` as the authors write it."""
    json.dump(content, stream, indent=2, ensure_ascii=False)


def _rows(path: Path, needed: Sequence[str], may_be_empty: str = "") -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of every row of a CSV file; each cell of ``needed`` holds something."""
    rows = read_csv(path, needed).rows
    if not rows:
        raise InputError("the file has a header and no rows", file=path, remedy="Get a complete copy.")
    for line, row in rows:
        if empty := [name for name in needed if name != may_be_empty and not row[name].strip()]:
            raise InputError(f"line {line}: this cell is empty", file=path, field=empty[0], remedy="Fill it in.")
        yield line, row


def _part(entry: Any, name: str, kinds: tuple[type, ...], path: Path, where: str) -> Any:
    if not isinstance(entry, dict) or name not in entry:
        raise InputError(f"{name} is missing", file=path, field=where, remedy="Add it, or leave the entry out.")
    value = entry[name]
    if not isinstance(value, kinds) or isinstance(value, bool):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise InputError(f"this should be {names}", file=path, field=f"{where}.{name}", remedy="Correct the entry.")
    return value


def _number(row: Mapping[str, str], name: str, path: Path, line: int) -> int | None:
    text = (row.get(name) or "").strip()
    try:
        return int(text) if text else None
    except ValueError:
        raise InputError(
            f"line {line}: this is no whole number", file=path, field=name, value=text[:20], remedy="Correct it."
        ) from None
