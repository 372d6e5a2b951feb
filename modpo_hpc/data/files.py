"""JSON and CSV files read whole or not at all: every fault is named with its file, line and column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from modpo_hpc.errors import InputError

_PLAIN_CELL = re.compile(r"[^,\r\n]*")
_TO_QUOTE = re.compile(r'[",\r\n]|^\s|\s$')


@dataclass(frozen=True)
class CsvTable:
    """A CSV file: its rows as (line on which the row begins, {column: cell}), and what the file's lines became.

    ``lines`` counts the physical lines after the header, ``blank`` those of them that hold nothing, ``running_on``
    the rows whose quoted cells run over several lines.
    """

    header: tuple[str, ...]
    rows: list[tuple[int, dict[str, str]]]
    lines: int
    blank: int
    running_on: int


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: the file cannot be read, or line and byte of what is not UTF-8.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"this file cannot be read: {error.strerror}", file=path, remedy="Check the path and its permissions."
        ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(
            f"line {line} holds bytes that are not UTF-8 (byte {error.start})",
            file=path,
            remedy="Convert the file, for instance: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW",
        ) from error


def read_json(path: Path, shape: type) -> Any:
    """The content of a JSON file that must be a ``shape`` (dict or list) at its top."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"line {error.lineno}, column {error.colno}: this is no JSON ({error.msg})",
            file=path,
            remedy="Get a complete copy of the file.",
        ) from error
    if not isinstance(content, shape):
        wanted = "a mapping of id to text" if shape is dict else "a list of questions"
        raise InputError(f"the file is not {wanted}", file=path, remedy="Compare it with docs/authors-files.md.")
    return content


def read_csv(path: Path, needed: Sequence[str] = (), fields: Mapping[str, str] | None = None) -> CsvTable:
    """A CSV file (RFC 4180: commas, double quotes), every row with as many cells as the header.

    Args:
        needed: columns that the file must have.
        fields: column -> the study's field that names it, for the message where a needed column is absent.

    Raises:
        InputError: line and column of the first fault. No row is guessed, joined or left out.
    """
    text = read_text(path)
    if not text.strip():
        raise InputError("this file is empty", file=path, remedy="Give a CSV file with a header and one entry a row.")
    if "\n" not in text:
        text = text.replace("\r", "\n")  # line ends of old spreadsheet programs
    records = _records(text, path)
    _, header = next(records)
    _check_header(header, needed, fields or {}, path)
    rows, blank, running_on, last = [], 0, 0, 1
    for (first, last), cells in records:
        if not any(cell.strip() for cell in cells):
            blank += 1
            continue
        if len(cells) != len(header):
            raise InputError(
                f"line {first}, column {min(len(cells), len(header)) + 1}: this row has {len(cells)} cells, the header "
                f"{len(header)}",
                file=path,
                remedy="Put cells that hold commas or line ends in double quotes; write empty cells, too.",
            )
        running_on += last > first
        rows.append((first, dict(zip(header, cells, strict=True))))
    return CsvTable(tuple(header), rows, last - 1, blank, running_on)


def write_csv(stream: IO[str], columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """``rows`` with a header, as :func:`read_csv` reads them back to the character; None becomes an empty cell."""
    stream.write(",".join(map(_quoted, columns)) + "\n")
    for row in rows:
        stream.write(",".join(_quoted(row.get(name)) for name in columns) + "\n")


def _quoted(cell: Any) -> str:
    text = "" if cell is None else str(cell)
    return '"' + text.replace('"', '""') + '"' if _TO_QUOTE.search(text) else text


def _check_header(header: Sequence[str], needed: Sequence[str], fields: Mapping[str, str], path: Path) -> None:
    if twice := [name for name in header if header.count(name) > 1]:
        raise InputError(
            f"line 1: two columns are called {twice[0]!r}", file=path, field=twice[0], remedy="Rename or remove one."
        )
    for name in needed:
        if name in header:
            continue
        separator = next((one for one in (";", "\t", "|") if one in header[0]), None)
        if len(header) == 1 and separator is not None:
            raise InputError(
                f"line 1: the cells of this file are separated by {separator!r}",
                file=path,
                remedy="Save it as CSV with commas (UTF-8).",
            )
        remedy = f"Its columns are: {', '.join(header)}."
        raise InputError(
            f"this file has no column {name!r}",
            file=path,
            field=fields.get(name, name),
            value=name if name in fields else None,
            remedy=f"{remedy} Name the right one in the study." if name in fields else f"{remedy} Add the column.",
        )


def _records(text: str, path: Path) -> Iterator[tuple[tuple[int, int], list[str]]]:
    """Every record of ``text`` with its first and last line."""
    place, line, end = 0, 1, len(text)
    while place < end:
        first, cells = line, list[str]()
        while True:
            if text.startswith('"', place):
                closing = _closing_quote(text, place, line, len(cells) + 1, path)
                cells.append(text[place + 1 : closing].replace('""', '"'))
                line += text.count("\n", place, closing)
                place = closing + 1
            else:
                match = _PLAIN_CELL.match(text, place)
                assert match is not None
                cells.append(match.group())
                place = match.end()
                if '"' in cells[-1]:
                    raise InputError(
                        f"line {line}, column {len(cells)}: a quote stands in a cell that has none around it",
                        file=path,
                        remedy="Put the cell in double quotes and double those inside it; or a quote of the row "
                        "before is missing.",
                    )
            if not text.startswith(",", place):
                break
            place += 1
        if text.startswith("\r", place) and not text.startswith("\r\n", place) and place + 1 < end:
            raise InputError(
                f"line {line}, column {len(cells)}: a line end (carriage return) stands in a cell without quotes",
                file=path,
                remedy="Put the cell in double quotes, or save the file with one kind of line end.",
            )
        place += 2 if text.startswith("\r\n", place) else 1
        yield (first, line), cells
        line += 1


def _closing_quote(text: str, opening: int, line: int, column: int, path: Path) -> int:
    """Place of the quote that closes the cell opened at ``opening``."""
    place = opening + 1
    while (place := text.find('"', place)) >= 0 and text.startswith('""', place):
        place += 2
    if place < 0:
        raise InputError(
            f"line {line}, column {column}: the quote that opens this cell is never closed",
            file=path,
            remedy="Write the closing quote, and double every quote inside the cell.",
        )
    if place + 1 < len(text) and text[place + 1] not in ",\r\n":
        at = line + text.count("\n", opening, place)
        raise InputError(
            f"line {line}, column {column}: the quote that opens this cell seems not to be closed; the next one, on "
            f"line {at}, stands before {text[place + 1]!r}",
            file=path,
            remedy="Write the closing quote, and double every quote inside the cell.",
        )
    return place
