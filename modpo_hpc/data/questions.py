"""Questions: seeker posts, cleaned and split into training and test, as in the paper."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa

from modpo_hpc.errors import InputError
from modpo_hpc.run import Run
from modpo_hpc.seeds import seed_of
from modpo_hpc.study.data import Data

SCHEMA = pa.schema([("question_id", pa.string()), ("text", pa.string()), ("split", pa.string())])
Split = Literal["train", "test"]
EPITOME_POSTS = 2979
"""Usable posts of EPITOME's Reddit part within the study's default bounds, as the paper counts them."""


@dataclass(frozen=True)
class Question:
    """A seeker post."""

    question_id: str
    text: str


def read_posts(path: Path, id_column: str, text_column: str, repeated_ids: bool) -> pd.DataFrame:
    """The posts of a CSV file: columns question_id and text, one row an id, in the order of the file.

    With ``repeated_ids`` (EPITOME has one row per reply) the first row of an id counts, and the others must carry
    the same text; without it, an id that comes twice is an error.

    Raises:
        InputError: no file, wrong encoding, no rows, a missing column, an empty id, ids that clash.
    """
    records = _read_csv(path, (id_column, text_column))
    if not records:
        raise InputError("this file has a header but no posts", file=path, remedy="Give a file with one post a row.")
    first: dict[str, tuple[int, str]] = {}
    for line, record in records:
        identity, text = (record[id_column] or "").strip(), record[text_column] or ""
        if not identity:
            raise InputError(f"line {line} has no id", file=path, field=id_column, remedy="Give every post an id.")
        if identity not in first:
            first[identity] = (line, text)
        elif not repeated_ids or first[identity][1] != text:
            why = "two different posts" if first[identity][1] != text else "two posts"
            raise InputError(
                f"lines {first[identity][0]} and {line} give {why} the same id",
                file=path,
                field=id_column,
                value=identity,
                remedy="Give each post an id of its own, or remove one of the lines.",
            )
    return pd.DataFrame({"question_id": list(first), "text": [text for _, text in first.values()]})


def clean(posts: pd.DataFrame, settings: Data) -> pd.DataFrame:
    """The posts whose length, in characters and in words, is within the study's bounds."""
    length, words = posts["text"].str.len(), posts["text"].map(lambda text: len(text.split()))
    keep = length.between(settings.min_characters, settings.max_characters) & (words >= settings.min_words)
    return posts[keep].reset_index(drop=True)


def split(posts: pd.DataFrame, test_size: int, seed: int, source: str) -> pd.DataFrame:
    """Add the column ``split``: ``test_size`` posts are test, stratified by quartile of length in characters.

    Raises:
        InputError: fewer posts than the test asks for and training needs.
    """
    from sklearn.model_selection import train_test_split

    if len(posts) - test_size < 4 or test_size < 4:
        raise InputError(
            f"{len(posts)} usable posts cannot give {test_size} test posts and at least 4 training posts",
            file=source,
            field="data.test_size",
            value=test_size,
            remedy=f"Set it between 4 and {len(posts) - 4}." if len(posts) >= 8 else "Give at least 8 usable posts.",
        )
    quartile = pd.qcut(posts["text"].str.len(), 4, labels=False, duplicates="drop")
    _, test = train_test_split(posts.index, test_size=test_size, random_state=seed, stratify=quartile)
    return posts.assign(split=["test" if index in set(test) else "train" for index in posts.index])


def study_questions(run: Run, which: Split) -> list[Question]:
    """The questions of a split that the study goes on with, in the order of the questions table.

    ``data.use_train`` and ``data.use_test`` thin a split out by a draw that belongs to each question, so a study of
    200 test questions uses some of those that a study of 600 uses.
    """
    table = run.table("questions").to_pandas()
    chosen = table[table["split"] == which]
    limit = run.study.data.use_train if which == "train" else run.study.data.use_test
    if limit is not None and limit < len(chosen):
        draw = chosen["question_id"].map(lambda identity: seed_of(run.study.seed, "use", identity))
        chosen = chosen.loc[draw.nsmallest(limit).index.sort_values()]
    return [Question(row.question_id, row.text) for row in chosen.itertuples()]


def _read_csv(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"the posts cannot be read: {error.strerror}", file=path, remedy="Check the path and its permissions."
        ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(
            f"line {line} holds bytes that are not UTF-8 (byte {error.start})",
            file=path,
            remedy="Convert the file, for instance: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW",
        ) from error
    if not text.strip():
        raise InputError("this file is empty", file=path, remedy="Give a CSV file with a header and one post a row.")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    found = reader.fieldnames or []
    if missing := [column for column in columns if column not in found]:
        raise InputError(
            f"this file has no column {missing[0]!r}",
            file=path,
            field="data.id_column" if missing[0] == columns[0] else "data.text_column",
            value=missing[0],
            remedy=f"Its columns are: {', '.join(found)}. Name the right one in the study.",
        )
    try:
        return [(reader.line_num, record) for record in reader]
    except csv.Error as error:
        raise InputError(
            f"line {reader.line_num} is no CSV: {error}", file=path, remedy="Save it as comma-separated CSV."
        ) from error
