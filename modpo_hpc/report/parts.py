"""What a report is made of: sections with sentences, facts, figures and tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from modpo_hpc.report.style import ink_on

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, whether it holds numbers, and how its cells are made of records.

    A cell is what ``write`` makes of the ``fields`` of its record; a column without fields gets its cells as they are.
    ``criterion`` is set where the criteria stand side by side.
    """

    heading: str
    number: bool = True
    write: Callable[..., str] = str
    fields: tuple[str, ...] = ()
    criterion: str = ""

    def cell(self, record: Record) -> str:
        return self.write(*(record[name] for name in self.fields))


@dataclass(frozen=True)
class Shown:
    """A table as it is shown: cells are texts; ``strong`` holds the places (row, column) that stand out.

    ``file`` names its files; a ``folded`` table is opened by a click.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    file: str
    strong: frozenset[tuple[int, int]] = frozenset()
    folded: bool = False


@dataclass(frozen=True)
class Tile:
    """A cell of a matrix: what it shows, on which colour, what it means in a sentence, and the cases behind it."""

    text: str
    background: str
    told: str
    link: str

    @property
    def ink(self) -> str:
        return ink_on(self.background)


@dataclass(frozen=True)
class Matrix:
    """Row against column: names in the order of rows and columns, and (row, column) -> cell."""

    names: tuple[str, ...]
    tiles: Mapping[tuple[str, str], Tile]


@dataclass(frozen=True)
class ReportFigure:
    """A figure, the name of its files, and how it is drawn.

    A ``wide`` one takes the width of the page; ``folded`` ones are opened by a click, all of a section at once. One
    with a ``matrix`` stands in the page as a table of links in place of the drawing.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]
    wide: bool = False
    folded: bool = False
    matrix: Matrix | None = None


@dataclass(frozen=True)
class ReportSection:
    """A part of the report under a heading. ``paste`` holds texts that are to be copied as they are, by their name."""

    anchor: str
    heading: str
    lead: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[str] = ()
    figures: Sequence[ReportFigure] = ()
    tables: Sequence[Shown] = ()
    paste: Mapping[str, str] = field(default_factory=dict)


def text(heading: str, field: str = "", write: Callable[[Any], str] = str) -> Column:
    """A column of words."""
    return Column(heading, False, write, (field,) if field else ())


def number(heading: str, write: Callable[..., str], *fields: str) -> Column:
    """A column of numbers."""
    return Column(heading, True, write, fields)


def numbers(*headings: str) -> list[Column]:
    """Columns of numbers whose cells are made elsewhere."""
    return [Column(heading) for heading in headings]


def table(
    caption: str,
    columns: Sequence[Column],
    records: Iterable[Record],
    file: str,
    strong: Iterable[tuple[int, int]] = (),
    folded: bool = False,
) -> Shown:
    """A table with a row for each of ``records``."""
    rows = [[one.cell(record) for one in columns] for record in records]
    return Shown(caption, columns, rows, file, frozenset(strong), folded)


def filled(*tables: Shown) -> list[Shown]:
    """Those of ``tables`` that have rows."""
    return [shown for shown in tables if shown.rows]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of ``frame`` as records."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def abreast(
    caption: str,
    heads: Sequence[Column],
    columns: Sequence[Column],
    lines: Iterable[Mapping[str, Record]],
    criteria: Sequence[str],
    strong: Callable[[Record], bool],
    file: str,
) -> Shown:
    """A table in which the criteria stand side by side.

    Args:
        heads: the first columns of each row.
        columns: those of each criterion; the first of them is headed by its name, and set strong where ``strong``.
        lines: the records of each row by criterion.
    """
    lines, every = list(lines), list(heads)
    for criterion in criteria:
        heading = criterion.replace("_", " ").capitalize()
        first, *others = (replace(one, criterion=criterion) for one in columns)
        every += [replace(first, heading=heading), *others]
    rows = [[one.cell(line[one.criterion or criteria[0]]) for one in every] for line in lines]
    places = {criterion: len(heads) + at * len(columns) for at, criterion in enumerate(criteria)}
    marked = {(at, place) for at, line in enumerate(lines) for one, place in places.items() if strong(line[one])}
    return Shown(caption, every, rows, file, frozenset(marked))


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
