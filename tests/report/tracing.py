"""Following every number of a report: the printed lines are run, and what they print is compared with the text."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable
from functools import cache

from modpo_hpc.report import formats
from modpo_hpc.report.trace import Traced, numbers_in


def forms(value: float) -> set[str]:
    """Every way in which the report may print ``value``, without sign of percent and plus."""
    if not math.isfinite(value):
        return {"∞"}
    shares = {f"{100 * value:.{digits}f}" for digits in range(3)} | {f"{100 * value:g}"}
    plain = {f"{value:.{digits}f}" for digits in range(4)} | {f"{value:.2g}", f"{value:.3g}", f"{value:g}"}
    every = shares | plain | {formats.p_value(value).removeprefix("<")}
    every |= {one.replace("0.", ".", 1) for one in plain if abs(value) < 1}
    return every | {one.removeprefix("-") for one in every if not float(one)}


def printed(text: str) -> list[str]:
    return [token.lstrip("+").replace(",", "") for token in numbers_in(text)]


def of_duration(seconds: float) -> set[str]:
    """The numbers of a time as the table of costs prints it, in any of its units."""
    minutes, hours = divmod(round(seconds), 60), divmod(round(seconds) // 60, 60)
    return {f"{seconds:.1f}", f"{minutes[0]}", f"{minutes[1]:02d}", f"{hours[0]}", f"{hours[1]:02d}"}


@cache
def told_by(code: str) -> tuple[float, ...]:
    """The numbers that ``code`` prints; lines before ``r = rows[...]``, which make a whole table, run once a table."""
    start, mark, end = code.partition("r = rows[")
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(mark + end, dict(left_by(start))) if mark else exec(code, {})
    words = told.getvalue().replace("(", " ").replace(")", " ").replace(",", " ").split()
    return tuple(float("nan" if word == "None" else word.rstrip("%")) for word in words)


@cache
def left_by(lines: str) -> dict[str, object]:
    """The names that ``lines`` define."""
    names: dict[str, object] = {}
    exec(lines, names)
    return names


def unexplained(traced: Traced, ids: Iterable[str]) -> list[tuple[str, str, list[str]]]:
    """The numbers of ``ids`` that their own lines do not give: (id, text, what is missing). Cells in their order."""
    lacking = []
    for identity in ids:
        found, place = traced.trace(identity), traced.places[identity]
        assert all(len(origin.code.splitlines()) <= 10 for origin in found.origins), identity
        values = [value for origin in found.origins for value in told_by(origin.code)]
        wanted = printed(found.text)
        if place.shown is None:
            known = {form.lstrip("-") for value in values for form in forms(value)}
            missing = [token for token in wanted if token.lstrip("-") not in known]
        elif place.shown.file == "cost":
            missing = [token for token in wanted if token not in forms(values[0]) | of_duration(values[0])]
        else:
            ordered = [value for value in values if not math.isnan(value)]
            missing = [one for one, value in zip(wanted, ordered, strict=False) if one not in forms(value)]
            missing += wanted[len(ordered) :]
        if missing:
            lacking.append((identity, found.text, missing))
    return lacking
