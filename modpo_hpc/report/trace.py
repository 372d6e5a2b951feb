"""From a number of the report back to what it rests on, and the lines that compute it again.

Every cell of a table has the id ``<table>.<row>.<column>`` and every sentence ``<section>.<sentence>``, counted from 1;
facts are ``<section>.fact1``, paragraphs to copy ``<section>.paste1``, captions ``<table>.caption``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from modpo_hpc.core.markers import read_marker
from modpo_hpc.errors import InputError
from modpo_hpc.report import formats
from modpo_hpc.report.contents import sections_of
from modpo_hpc.report.parts import ReportSection, Shown
from modpo_hpc.report.results import Results, read_results
from modpo_hpc.report.trace_code import code_for
from modpo_hpc.report.trace_recipes import lines_for
from modpo_hpc.report.trace_sentences import confidence_of, lines_of
from modpo_hpc.run import Run

_CITED = re.compile(r" Software: .*| ?\([^()]* \d{4}\)")
"""Years and versions of citations, which are names."""


Rest = Literal["verdicts", "statistics", "files", "package"]
_ASKED = re.compile(r"^from (modpo_hpc\.(?!run\b)[\w.]+) import (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Origin:
    """Where printed numbers come from: lines that compute them, and what these start from.

    ``verdicts`` are the raw ones, ``statistics`` the stored tables (of what is drawn or fitted), ``files`` those of
    another stage; ``package`` where the lines call functions of the package. ``table``, ``column`` and ``row`` say
    which number of the statistics it is, if it is one.
    """

    code: str
    rests_on: Rest
    table: str = ""
    column: str = ""
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def computed_by(self) -> tuple[str, ...]:
        """The functions of the package that the lines call."""
        return tuple(f"{module}.{name}" for module, names in _ASKED.findall(self.code) for name in names.split(", "))


@dataclass(frozen=True)
class Place:
    """Where an id stands: its text, its section, and for a cell its table, row and column."""

    text: str
    section: ReportSection
    shown: Shown | None = None
    row: int = 0
    column: int = 0


@dataclass(frozen=True)
class Trace:
    """A cell or a sentence: its text, the origins of its numbers, and what is behind it.

    ``also`` are the cells that print a sentence's numbers, ``files`` are (stage, shard, file, SHA-256).
    """

    id: str
    text: str
    origins: tuple[Origin, ...]
    also: tuple[str, ...]
    files: tuple[tuple[str, str, str, str], ...]


class Traced:
    """The report of a run as ids, each of which can be followed."""

    def __init__(self, run: Run) -> None:
        self.run, self.results = run, read_results(run)
        self.places = dict(_everything(sections_of(run, self.results)))

    def trace(self, wanted: str) -> Trace:
        """What is behind the cell or the sentence ``wanted``.

        Raises:
            InputError: the report has no such id.
        """
        if wanted not in self.places:
            raise InputError(
                "the report has no such number",
                field="ID",
                value=wanted,
                remedy=f"List all ids: modpo trace {self.run.quoted}",
            )
        place = self.places[wanted]
        also: tuple[str, ...] = ()
        if place.shown is not None:
            origins = tuple(self._of_cell(place))
        elif not (origins := tuple(map(_origin, lines_of(self.run, self.results, place.section.anchor, place.text)))):
            also = tuple(self._cells_of(place))
            origins = tuple(one for cell in also for one in self._of_cell(self.places[cell]))
            if level := confidence_of(self.run, place.text):
                origins += (_origin(level),)
        return Trace(wanted, place.text, origins, also, _files(self.run, place.section, origins))

    def _cells_of(self, place: Place) -> Iterator[str]:
        """Cells that print a number of a sentence, in a row of a policy or criterion it names: of tables of its own
        section, and for the summary of those of the first phase."""
        tokens, sentence = set(formats.numbers_in(place.text)), place.text.lower()
        sections = {place.section.anchor, next(iter(self.results.phases)) if place.section.anchor == "summary" else ""}
        for identity, cell in self.places.items():
            if cell.shown is None or cell.section.anchor not in sections:
                continue
            named = zip(cell.shown.rows[cell.row], cell.shown.columns, strict=True)
            labels = [name for name, column in named if not column.number]
            told = labels and all(label.lower() in sentence for label in labels)
            if told and tokens & set(formats.numbers_in(cell.text)):
                yield identity

    def _of_cell(self, place: Place) -> Iterator[Origin]:
        assert place.shown is not None
        column, row = place.shown.columns[place.column], place.shown.rows[place.row]
        main, phase = _statistics_in(self.results, place.shown)
        if main is None:
            yield from map(_origin, lines_for(self.run, place.shown, place.row, place.column))
            return
        where = {"phase": phase} | ({"criterion": column.criterion} if column.criterion else {})
        cells = zip(place.shown.columns, row, strict=True)
        names = [(one, cell) for one, cell in cells if one.fields and not one.number]
        for field_ in column.fields:
            of_table, _, value = field_.rpartition(".")
            table = of_table or main
            (found,) = (
                record
                for record in self.results.rows(table, **{key: one for key, one in where.items() if one})
                if all(one.cell(record) == cell for one, cell in names if record.keys() >= {*one.fields})
            )
            if not isinstance(found[value], bool):
                code, from_verdicts = code_for(self.run, table, value, found, self.results.summary["settings"])
                yield Origin(code, "verdicts" if from_verdicts else "statistics", table, value, found)


def _origin(code: str) -> Origin:
    parts: tuple[Rest, ...] = ("verdicts", "statistics")
    rest: Rest = "package" if _ASKED.search(code) else next((one for one in parts if f"{one}/" in code), "files")
    return Origin(code, rest)


def _everything(sections: Sequence[ReportSection]) -> Iterator[tuple[str, Place]]:
    for section in sections:
        for number, sentence in enumerate([section.lead, *section.findings]):
            if formats.numbers_in(sentence):
                yield f"{section.anchor}.{number}", Place(sentence, section)
        yield from _settings(section)
        for shown in section.tables:
            for up, row in enumerate(shown.rows):
                for across, cell in enumerate(row):
                    if shown.columns[across].number and formats.numbers_in(cell):
                        yield f"{shown.file}.{up + 1}.{across + 1}", Place(cell, section, shown, up, across)


def _settings(section: ReportSection) -> Iterator[tuple[str, Place]]:
    """The facts, captions and paragraphs of ``section`` that print numbers; versions of software are none."""
    told = {f"{section.anchor}.paste{at}": _CITED.sub("", one) for at, one in enumerate(section.paste.values(), 1)}
    if section.anchor != "provenance":
        told |= {f"{section.anchor}.fact{at}": one for at, one in enumerate(section.facts.values(), 1)}
    told |= {f"{one.file}.caption": one.caption for one in section.tables}
    told |= {f"{one.name}.caption": one.caption for one in section.figures}
    yield from ((identity, Place(one, section)) for identity, one in told.items() if formats.numbers_in(one))


def _statistics_in(results: Results, shown: Shown) -> tuple[str | None, str | None]:
    """The table of the statistics that ``shown`` shows, and the phase that it is of; None for other tables."""
    phase = next((one for one in results.phases if shown.file.startswith(f"{one}_")), None)
    table = shown.file.removeprefix(f"{phase}_") if phase else shown.file
    return table if table in results.tables else None, phase


def _files(run: Run, section: ReportSection, origins: Sequence[Origin]) -> tuple[tuple[str, str, str, str], ...]:
    stages = {
        "people": ("questions", "personas"),
        "training": ("policies", "conditioned"),
        "fronts": ("fronts",),
        "repeats": ("repeats",),
        "rewards": ("rewards",),
        "toxicity": ("toxicity",),
        "cost": (),
        "provenance": (),
    }.get(section.anchor, ("statistics", "verdicts"))
    wanted = {f"{one.row['phase']}." for one in origins if one.row}
    named = ("policy", "policy_a", "policy_b")
    pairs = [{one.row[key] for key in named if one.row.get(key)} for one in origins if one.row]
    found = []
    for stage in stages:
        for shard in run.shard_ids(stage):
            of_pair = not pairs or any(names <= set(shard.split(".")) for names in pairs)
            if stage == "verdicts" and not (of_pair and (not wanted or any(map(shard.startswith, wanted)))):
                continue
            marker = read_marker(run.folder(stage), shard)
            for file, output in (marker.outputs if marker else {}).items():
                if stage != "statistics" or not pairs or any(file == f"{one.table}.parquet" for one in origins):
                    found.append((stage, shard, f"{stage}/{file}", output.sha256))
    return tuple(found)
