"""Survey files become participants: every answer read, none guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modpo_hpc.data.files import CsvTable, read_csv
from modpo_hpc.errors import InputError
from modpo_hpc.personas.answers import age_band, group_of, level, several, tidy
from modpo_hpc.personas.columns import ATTITUDE, IMPORTANCE, Columns, match_headers


@dataclass(frozen=True)
class Participant:
    """The answers of one person. Empty tuples and None stand for questions that were not answered.

    ``told`` holds the answers in words by field, ``attitudes`` and ``importance`` the ratings.
    """

    participant_id: str | None
    population: str
    line: int
    told: Mapping[str, tuple[str, ...]]
    attitudes: Mapping[str, int | None]
    importance: Mapping[str, int | None]
    gender_group: str
    ethnicity_group: str

    @property
    def origin(self) -> str:
        """Where the answers stand; says nothing about the person."""
        return f"{self.population}, line {self.line}"

    @property
    def age_group(self) -> str | None:
        """The age group, in one spelling; None if it was not stated."""
        return next(iter(self.told["age_group"]), None)

    @property
    def primary_preference(self) -> str | None:
        """The criterion rated highest, of several the one that the survey asks first; None without ratings."""
        rated = {name: value for name, value in self.importance.items() if value is not None}
        return max(rated, key=rated.__getitem__) if rated else None

    def answers(self) -> tuple[object, ...]:
        """All that the person answered, without id and population: equal for copies of one another."""
        return tuple(tuple(answers.items()) for answers in (self.told, self.attitudes, self.importance))


def read_surveys(files: Mapping[str, Path], columns: Columns) -> list[Participant]:
    """The participants of all ``files`` (population label -> CSV), in the order of the files and their rows.

    Raises:
        InputError: no such file, bytes that are not UTF-8, no rows, a missing or ambiguous column, an answer that its
            scale does not know; the message names file, line and column.
    """
    participants: list[Participant] = []
    for population, path in files.items():
        table = _read_csv(Path(path))
        found = match_headers(table.header, columns, path)
        participants += [_participant(row, line, population, found, columns, path) for line, row in table.rows]
    return participants


def parse_rows(
    rows: Iterable[Mapping[str, str]], population: str, columns: Columns, source: str = "rows"
) -> list[Participant]:
    """Participants from rows that are in memory already: {header: cell}."""
    listed = list(rows)
    found = match_headers(list(listed[0]) if listed else [], columns, source)
    return [_participant(row, line, population, found, columns, source) for line, row in enumerate(listed, start=2)]


def without_copies(participants: Sequence[Participant]) -> tuple[list[Participant], list[tuple[str, str]]]:
    """The participants, each once, and for everyone left out (origin, origin of the one kept).

    A person is a copy of an earlier one if the survey's id or all of the answers are the same.
    """
    kept: list[Participant] = []
    copies: list[tuple[str, str]] = []
    seen: dict[object, Participant] = {}
    for one in participants:
        marks = [mark for mark in (one.participant_id, one.answers()) if mark is not None]
        first = next((seen[mark] for mark in marks if mark in seen), None)
        if first is not None:
            copies.append((one.origin, first.origin))
        else:
            kept.append(one)
            seen.update(dict.fromkeys(marks, one))
    return kept, copies


def _read_csv(path: Path) -> CsvTable:
    if not path.is_file():
        raise InputError("there is no such survey file", file=path, field="personas.surveys", remedy="Check the path.")
    table = read_csv(path)
    if not table.rows:
        raise InputError(
            "the survey has no answers", file=path, remedy="Give a CSV with a header and one row a person."
        )
    return table


def _participant(
    row: Mapping[str, str], line: int, population: str, found: Mapping[str, str], columns: Columns, source: str | Path
) -> Participant:
    def cell(field: str) -> str:
        return row.get(found.get(field, ""), "")

    def listed(field: str) -> tuple[str, ...]:
        if columns.fields[field].kind == "several" and field not in ("age_group", "gender"):
            return several(cell(field), columns)
        answer = tidy(cell(field), columns)
        return () if answer is None else (answer,)

    def rated(prefix: str) -> dict[str, int | None]:
        levels = {}
        for field in columns.fields.values():
            if field.name.startswith(prefix):
                try:
                    levels[field.name.removeprefix(prefix)] = level(cell(field.name), field.kind, columns)
                except ValueError as error:
                    raise InputError(
                        f"line {line}: {error}",
                        file=source,
                        field=found[field.name],
                        value=cell(field.name).strip()[:30],
                        remedy=f"Correct the cell, or add the words to answers.{field.kind} in the column mapping "
                        "(personas.columns).",
                    ) from None
        return levels

    told = {field: listed(field) for field in columns.told}
    told["age_group"] = tuple(filter(None, map(age_band, told["age_group"])))
    return Participant(
        participant_id=tidy(cell("participant"), columns),
        population=population,
        line=line,
        told=told,
        attitudes=rated(ATTITUDE),
        importance=rated(IMPORTANCE),
        gender_group=group_of(told["gender"], "gender", columns, other="Self-described"),
        ethnicity_group=group_of(told["ethnicities"], "ethnicity", columns),
    )
