"""JSON and CSV files read whole or not at all: every fault is named with its file and line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modpo_hpc.errors import InputError

CSV_LIMIT = 10_000_000


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"this file cannot be read: {error.strerror}", file=path, remedy="Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"byte {error.start} is not UTF-8", file=path, remedy="Convert the file to UTF-8.") from error


def read_json(path: Path, shape: type) -> Any:
    """The content of a JSON file that must be a ``shape`` (dict or list) at its top."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"line {error.lineno}: this is no JSON ({error.msg})", file=path, remedy="Get a complete copy of the file."
        ) from error
    if not isinstance(content, shape):
        wanted = "a mapping of id to text" if shape is dict else "a list of questions"
        raise InputError(f"the file is not {wanted}", file=path, remedy="Compare it with docs/authors-files.md.")
    return content


def read_header(path: Path) -> list[str]:
    """The column names of a CSV file."""
    for line in read_text(path).splitlines():
        return next(csv.reader([line]))
    raise InputError("this file is empty", file=path, remedy="Give a CSV with a header.")


def read_rows(path: Path, needed: Sequence[str], may_be_empty: str = "") -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of every row of a CSV file; each cell of ``needed`` holds something."""
    csv.field_size_limit(CSV_LIMIT)
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restkey="\0rest", strict=True)
    header = reader.fieldnames or []
    if absent := [name for name in needed if name not in header]:
        raise InputError(f"this file has no column {absent[0]!r}", file=path, field=absent[0], remedy="Add the column.")
    count = 0
    try:
        for row in reader:
            line = reader.line_num
            if "\0rest" in row or None in row.values():
                raise InputError(
                    f"line {line}: the number of cells is not that of the header",
                    file=path,
                    remedy="Quote cells that hold commas or line ends.",
                )
            if empty := [name for name in needed if name != may_be_empty and not row[name].strip()]:
                raise InputError(f"line {line}: this cell is empty", file=path, field=empty[0], remedy="Fill it in.")
            count += 1
            yield line, row
    except csv.Error as error:
        raise InputError(
            f"line {reader.line_num}: this is no CSV ({error})", file=path, remedy="Get a complete copy."
        ) from error
    if not count:
        raise InputError("this file has a header and no rows", file=path, remedy="Get a complete copy.")
