"""Every number of a report against what its own lines print."""

from __future__ import annotations

import contextlib
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import pandas as pd

from modpo_hpc.report import formats
from modpo_hpc.report.trace import Traced

MOST_LINES = 10
_LEFT = 32
"""Beginnings of lines whose names are kept: neighbouring cells share theirs."""


@dataclass(frozen=True)
class Checked:
    """How many ``numbers`` stand in ``places`` (cells and sentences), how many lines start from what (``starts``), and
    the places whose lines do not give their numbers: (id, text, numbers that are missing)."""

    places: int
    numbers: int
    starts: dict[str, int]
    unexplained: list[tuple[str, str, list[str]]]


def check(traced: Traced, ids: Iterable[str]) -> Checked:
    """Run the lines of all ``ids`` and look for every number that they print.

    The numbers of a cell are held against those of its lines one by one, those of a sentence in any order.
    """
    places, numbers, starts, lacking = 0, 0, Counter[str](), list[tuple[str, str, list[str]]]()
    with _files_read_once():
        for identity in ids:
            found = traced.trace(identity)
            places, numbers = places + 1, numbers + len(printed(found.text))
            starts.update(one.rests_on for one in found.origins)
            values = [value for one in found.origins for value in told_by(one.code)]
            missing = _missing(traced, identity, values)
            if missing or any(len(one.code.splitlines()) > MOST_LINES for one in found.origins):
                lacking.append((identity, found.text, missing))
    return Checked(places, numbers, dict(starts), lacking)


def _missing(traced: Traced, identity: str, values: list[float]) -> list[str]:
    place = traced.places[identity]
    wanted = printed(place.text)
    if place.shown is None:
        known = {form.lstrip("-") for value in values for form in forms(value)}
        return [token for token in wanted if token.lstrip("-") not in known]
    ordered = [value for value in values if not math.isnan(value)]
    if place.shown.file == "cost":
        known = forms(ordered[0]) | of_duration(ordered[0]) if ordered else set()
        return [token for token in wanted if token not in known]
    missing = [one for one, value in zip(wanted, ordered, strict=False) if one not in forms(value)]
    return missing + wanted[len(ordered) :]


def forms(value: float) -> set[str]:
    """Every way in which the report may print ``value``, without sign of percent and plus."""
    if not math.isfinite(value):
        return {"∞"}
    shares = {f"{100 * value:.{digits}f}" for digits in range(3)} | {f"{100 * value:g}"}
    plain = {f"{value:.{digits}f}" for digits in range(4)} | {f"{value:.2g}", f"{value:.3g}", f"{value:g}", f"{value}"}
    every = shares | plain | {formats.p_value(value).removeprefix("<")}
    every |= {one.replace("0.", ".", 1) for one in plain if abs(value) < 1}
    return every | {one.removeprefix("-") for one in every if not float(one)}


def printed(text: str) -> list[str]:
    """The numbers of ``text`` without plus and thousands' commas."""
    return [token.lstrip("+").replace(",", "") for token in formats.numbers_in(text)]


def of_duration(seconds: float) -> set[str]:
    """The numbers of a time as the table of costs prints it, in any of its units."""
    minutes, hours = divmod(round(seconds), 60), divmod(round(seconds) // 60, 60)
    return {f"{seconds:.1f}", f"{minutes[0]}", f"{minutes[1]:02d}", f"{hours[0]}", f"{hours[1]:02d}"}


@cache
def told_by(code: str) -> tuple[float, ...]:
    """The numbers that ``code`` prints. Its beginning (what makes a whole table, or all but the last line) is run once
    for all that share it."""
    start, mark, end = code.partition("r = rows[")
    if not mark:
        start, _, end = code.rstrip("\n").rpartition("\n")
        if end.startswith(" "):
            start, end = "", code
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        first, names = _left_by(start)
        print(first)
        exec(mark + end, dict(names))
    words = told.getvalue().replace("(", " ").replace(")", " ").replace(",", " ").split()
    return tuple(float("nan" if word == "None" else word.rstrip("%")) for word in words)


@lru_cache(maxsize=_LEFT)
def _left_by(lines: str) -> tuple[str, dict[str, object]]:
    """What ``lines`` print, and the names that they define."""
    names: dict[str, object] = {}
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(lines, names)
    return told.getvalue(), names


@contextlib.contextmanager
def _files_read_once() -> Iterator[None]:
    """The same few files stand behind thousands of numbers."""
    reader = pd.read_parquet
    pd.read_parquet = cache(reader)  # type: ignore[assignment]
    try:
        yield
    finally:
        pd.read_parquet = reader
        told_by.cache_clear()
        _left_by.cache_clear()
