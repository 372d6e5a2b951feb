"""What a report is made of: sections with sentences, facts, pictures and tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from modpo_hpc.report.style import ink_on


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and whether it holds numbers."""

    heading: str
    number: bool = True


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
class Picture:
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
class Section:
    """A part of the report under a heading. ``paste`` holds texts that are to be copied as they are, by their name."""

    anchor: str
    heading: str
    lead: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Shown] = ()
    paste: Mapping[str, str] = field(default_factory=dict)


def text(heading: str) -> Column:
    """A column of words."""
    return Column(heading, number=False)


def numbers(*headings: str) -> list[Column]:
    """Columns of numbers."""
    return [Column(heading) for heading in headings]


def abreast(
    lines: Iterable[tuple[Sequence[str], Mapping[str, dict[str, Any]]]],
    criteria: Sequence[str],
    cells: Callable[[dict[str, Any]], list[str]],
    strong: Callable[[dict[str, Any]], bool],
) -> tuple[list[list[str]], frozenset[tuple[int, int]]]:
    """Rows of a table in which the criteria stand side by side, and the places of its strong cells.

    Args:
        lines: the first cells of each row, and its records by criterion.
        cells: the cells of one criterion, from its record.
        strong: whether the first of these is set strong.
    """
    rows, marked = [], set()
    for place, (heads, by_criterion) in enumerate(lines):
        line = [*heads]
        for criterion in criteria:
            record = by_criterion[criterion]
            if strong(record):
                marked.add((place, len(line)))
            line += cells(record)
        rows.append(line)
    return rows, frozenset(marked)


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
