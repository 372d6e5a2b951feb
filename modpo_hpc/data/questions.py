"""Questions: seeker posts, cleaned and split into training and test, as in the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa

from modpo_hpc.data.files import CsvTable, read_csv
from modpo_hpc.errors import InputError
from modpo_hpc.run import Run
from modpo_hpc.seeds import seed_of
from modpo_hpc.study.data import Data

SCHEMA = pa.schema([("question_id", pa.string()), ("text", pa.string()), ("split", pa.string())])
ACCOUNT = "account.json"
"""Name of the file beside the table that says what became of the rows read: a :class:`RowAccount`."""
Split = Literal["train", "test"]
EPITOME_COLUMNS = ("sp_id", "seeker_post")
EPITOME_POSTS = 2979
"""Usable posts of EPITOME's Reddit part within the study's default bounds, as the paper counts them."""


@dataclass(frozen=True)
class Question:
    """A seeker post."""

    question_id: str
    text: str


@dataclass(frozen=True)
class RowAccount:
    """What became of the rows of a file of posts: ``rows`` = the sum of ``dropped`` (rule -> rows) + ``kept``."""

    source: str
    lines: int
    rows: int
    running_on: int
    blank: int
    dropped: Mapping[str, int]
    kept: int

    def sentence(self) -> str:
        """The account as people read it.

        >>> RowAccount("a.csv", 61, 60, 1, 0, {"id read before": 2}, 58).sentence()
        'a.csv: 60 rows read from 61 lines (1 row runs over several lines); dropped 2 (2 id read before); 58 posts kept'
        """
        notes = []
        if self.running_on:
            notes.append(f"{self.running_on:,} row{'s run' if self.running_on > 1 else ' runs'} over several lines")
        if self.blank:
            notes.append(f"{self.blank:,} blank")
        listed = ", ".join(f"{count:,} {rule}" for rule, count in self.dropped.items() if count)
        dropped = f"dropped {sum(self.dropped.values()):,}{f' ({listed})' if listed else ''}"
        noted = f" ({', '.join(notes)})" if notes else ""
        read = f"{self.rows:,} rows read from {self.lines:,} lines{noted}"
        return f"{self.source}: {read}; {dropped}; {self.kept:,} posts kept"


def usable_posts(settings: Data, seed: int) -> tuple[pd.DataFrame, RowAccount]:
    """The study's posts (question_id, text) that are within its bounds, and what became of the others.

    Raises:
        InputError: see :func:`read_posts`.
    """
    source = settings.epitome or settings.file
    if source is None:
        from modpo_hpc.sandbox.questions import invented_posts

        posts = invented_posts(settings.sandbox_train + settings.sandbox_test, seed)
        lines = rows = len(posts)
        blank = running_on = 0
    else:
        columns = EPITOME_COLUMNS if settings.epitome else (settings.id_column, settings.text_column)
        posts, table = read_posts(source, *columns, repeated_ids=settings.epitome is not None)
        lines, rows, blank, running_on = table.lines, len(table.rows), table.blank, table.running_on
    kept, dropped = clean(posts, settings)
    repeated = {"of a post read before": rows - len(posts)}
    return kept, RowAccount(
        source.name if source else "sandbox", lines, rows, running_on, blank, repeated | dropped, len(kept)
    )


def read_posts(path: Path, id_column: str, text_column: str, repeated_ids: bool) -> tuple[pd.DataFrame, CsvTable]:
    """The posts of a CSV file: columns question_id and text, one row an id, in the order of the file; and the file.

    With ``repeated_ids`` (EPITOME has one row per reply) the first row of an id counts, and the others must carry
    the same text; without it, an id that comes twice is an error.

    Raises:
        InputError: see :func:`modpo_hpc.data.files.read_csv`; or no rows, an empty id, ids that clash.
    """
    fields = {id_column: "data.id_column", text_column: "data.text_column"}
    table = read_csv(path, (id_column, text_column), fields)
    if not table.rows:
        raise InputError("this file has a header but no posts", file=path, remedy="Give a file with one post a row.")
    first: dict[str, tuple[int, str]] = {}
    for line, record in table.rows:
        identity, text = record[id_column].strip(), record[text_column]
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
    return pd.DataFrame({"question_id": list(first), "text": [text for _, text in first.values()]}), table


def clean(posts: pd.DataFrame, settings: Data) -> tuple[pd.DataFrame, dict[str, int]]:
    """The posts whose length is within the study's bounds, and how many each rule took away, in the order applied."""
    length, words = posts["text"].str.len(), posts["text"].map(lambda text: len(text.split()))
    rules = {
        f"shorter than {settings.min_characters} characters": length < settings.min_characters,
        f"longer than {settings.max_characters} characters": length > settings.max_characters,
        f"fewer than {settings.min_words} words": words < settings.min_words,
    }
    gone = pd.Series(False, index=posts.index)
    dropped = {}
    for rule, breaks_it in rules.items():
        dropped[rule] = int((breaks_it & ~gone).sum())
        gone |= breaks_it
    return posts[~gone].reset_index(drop=True), dropped


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
    strata = _quartiles_of_length(posts["text"].str.len())
    _, test = train_test_split(posts.index, test_size=test_size, random_state=seed, stratify=strata)
    return posts.assign(split=["test" if held_back else "train" for held_back in posts.index.isin(test)])


def _quartiles_of_length(lengths: pd.Series) -> pd.Series | None:
    """The quartile of each length; where many are equal fewer strata, each of two posts or more; None for one."""
    strata = pd.qcut(lengths, 4, labels=False, duplicates="drop").fillna(0)
    while (counts := strata.value_counts()).min() < 2:
        smallest = counts.idxmin()
        nearest = min((one for one in counts.index if one != smallest), key=lambda one: abs(one - smallest))
        strata = strata.replace(smallest, nearest)
    return strata if len(counts) > 1 else None


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
