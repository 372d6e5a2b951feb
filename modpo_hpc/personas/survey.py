"""Survey files become participants: every answer read, none guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modpo_hpc.data.files import read_csv
from modpo_hpc.errors import InputError
from modpo_hpc.personas.answers import NOT_STATED, age_band, group_of, level, several, tidy
from modpo_hpc.personas.columns import ATTITUDE, IMPORTANCE, Columns, match_headers


@dataclass(frozen=True)
class Participant:
    """The answers of one person. Empty tuples and None stand for questions that were not answered.

    ``told`` holds the answers to the survey's own questions by field, ``attitudes`` and ``importance`` the ratings.
    """

    participant_id: str | None
    population: str
    line: int
    age_group: str | None
    gender: str | None
    ethnicities: tuple[str, ...]
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
    def age_stratum(self) -> str:
        """The age group, or that none was stated: what tables and strata are made by."""
        return self.age_group or NOT_STATED

    @property
    def primary_preference(self) -> str | None:
        """The criterion rated highest, of several the one that the survey asks first; None without ratings."""
        rated = {name: value for name, value in self.importance.items() if value is not None}
        return max(rated, key=rated.__getitem__) if rated else None

    def answers(self) -> tuple[object, ...]:
        """All that the person answered, without id and population: equal for copies of one another."""
        return (
            self.age_group,
            self.gender,
            self.ethnicities,
            tuple(self.told.items()),
            tuple(self.attitudes.items()),
            tuple(self.importance.items()),
        )


def read_surveys(files: Mapping[str, Path], columns: Columns) -> list[Participant]:
    """The participants of all ``files`` (population label -> CSV), in the order of the files and their rows.

    Raises:
        InputError: no such file, bytes that are not UTF-8, no rows, a missing or ambiguous column, an answer that its
            scale does not know; the message names file, line and column.
    """
    participants: list[Participant] = []
    for population, path in files.items():
        headers, rows = _read_csv(Path(path))
        found = match_headers(headers, columns, path)
        participants += [_participant(row, line, population, found, columns, path) for line, row in rows]
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


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    if not path.is_file():
        raise InputError("there is no such survey file", file=path, field="personas.surveys", remedy="Check the path.")
    table = read_csv(path)
    if not table.rows:
        raise InputError(
            "the survey has no answers", file=path, remedy="Give a CSV with a header and one row a person."
        )
    return list(table.header), table.rows


def _participant(
    row: Mapping[str, str], line: int, population: str, found: Mapping[str, str], columns: Columns, source: str | Path
) -> Participant:
    def one(field: str) -> str | None:
        return tidy(row.get(found.get(field, ""), ""), columns)

    def listed(field: str) -> tuple[str, ...]:
        if columns.fields[field].kind == "one":
            answer = one(field)
            return () if answer is None else (answer,)
        return several(row.get(found.get(field, ""), ""), columns)

    def rated(prefix: str) -> dict[str, int | None]:
        levels = {}
        for field in columns.fields.values():
            if field.name.startswith(prefix):
                cell = row.get(found.get(field.name, ""), "")
                try:
                    levels[field.name.removeprefix(prefix)] = level(cell, field.kind, columns)
                except ValueError as error:
                    raise InputError(
                        f"line {line}: {error}",
                        file=source,
                        field=found[field.name],
                        value=cell.strip()[:30],
                        remedy=f"Correct the cell, or add the words to answers.{field.kind} in the column mapping "
                        "(personas.columns).",
                    ) from None
        return levels

    gender, ethnicities = one("gender"), listed("ethnicities")
    return Participant(
        participant_id=one("participant"),
        population=population,
        line=line,
        age_group=age_band(one("age_group")),
        gender=gender,
        ethnicities=ethnicities,
        told={field: listed(field) for field in columns.told},
        attitudes=rated(ATTITUDE),
        importance=rated(IMPORTANCE),
        gender_group=group_of((gender,) if gender else (), "gender", columns, other="Self-described"),
        ethnicity_group=group_of(ethnicities, "ethnicity", columns),
    )
