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
from modpo_hpc.report.parts import Section, Shown
from modpo_hpc.report.results import Results, read_results
from modpo_hpc.report.trace_code import code_for
from modpo_hpc.report.trace_recipes import lines_for
from modpo_hpc.report.trace_sentences import confidence_of, lines_of
from modpo_hpc.run import Run

_CITED = re.compile(r" Software: .*| ?\([^()]* \d{4}\)")
"""Years and versions of citations, which are names."""


@dataclass(frozen=True)
class Layout:
    """How a table of the report shows a table of the statistics.

    ``keys`` are the columns of names it begins with, ``values`` the columns behind each of the further cells (none for
    words). Where ``by_criterion``, the values come again for each criterion of the phase.
    """

    table: str
    keys: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    by_criterion: bool = False


PAIR, POLICY = ("criterion", "policy_a", "policy_b"), ("criterion", "policy")
LAYOUTS = {
    "ranking": Layout(
        "ranking",
        ("policy",),
        (("win_rate",), ("low", "high"), ("rank", "rank_low", "rank_high"), ("best_probability",)),
        True,
    ),
    "mcnemar": Layout(
        "mcnemar",
        ("policy_a", "policy_b"),
        (("b", "c"), ("ties",), ("p",), ("odds_ratio", "odds_low", "odds_high")),
        True,
    ),
    "win_rates": Layout(
        "win_rates",
        PAIR,
        (
            ("win_rate_a",),
            ("a_low", "a_high"),
            ("win_rate_b",),
            ("b_low", "b_high"),
            ("difference",),
            ("difference_low", "difference_high"),
            ("difference_all_low", "difference_all_high"),
            ("mcnemar.detectable",),
        ),
    ),
    "bradley_terry": Layout("bradley_terry", POLICY, (("ability",), ("low", "high"))),
    "non_inferiority": Layout(
        "non_inferiority",
        (*POLICY, "reference"),
        (("margin",), ("difference",), ("low", "high"), ("model_low", "model_high"), ("p_adjusted",), (), (),
         ("questions_needed",)),
    ),
    "position_bias": Layout(
        "position_bias",
        ("phase", *PAIR),
        (("first_share",), ("low", "high"), ("flips",), ("flips_by_chance",), ("rate_a_first",), ("rate_a_second",),
         ("adjusted_a",), ("p",), ("p_adjusted",)),
    ),
    "persona_agreement": Layout(
        "persona_agreement", ("phase", *PAIR), (("votes",), ("icc",), ("effective_votes",))
    ),
    "completeness": Layout(
        "completeness", ("phase", *PAIR), (("asked",), ("cast",), ("unparsed",), ("missing",), ("decided",))
    ),
    "groups": Layout(
        "groups",
        ("phase", "criterion", "attribute", "group", "personas", "policy"),
        (("win_rate",), ("low", "high"), ("overall",)),
    ),
    "shares": Layout(
        "shares",
        PAIR,
        (("share",), ("low", "high"), (), ("decided_after",), ("questions",), ("votes",), ("wins_a", "wins_b"),
         ("majority_a",)),
    ),
    "share_ranking": Layout(
        "share_ranking", ("policy",), (("share",), ("low", "high"), ("rank", "rank_low", "rank_high")), True
    ),
    "judge_agreement": Layout(
        "judge_agreement",
        ("phase", "criterion", "judge", "other_judge"),
        (("votes",), ("agreement",), ("kappa",), ("ac1",), ("majority_agreement",), ("majority_kappa",)),
    ),
    "judge_rates": Layout("judge_rates", ("phase", *PAIR, "judge"), (("win_rate_a",), ("win_rate_b",))),
    "length_control": Layout(
        "length_control",
        ("phase", *PAIR),
        (("length_a",), ("length_b",), ("win_rate",), ("controlled",), ("low", "high"), ("slope",)),
    ),
}  # fmt: skip


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
    section: Section
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
        elif not (origins := tuple(self._of_sentence(place))):
            also = tuple(self._cells_of(place))
            origins = tuple(one for cell in also for one in self._of_cell(self.places[cell]))
            if level := confidence_of(self.run, place.text):
                origins += (Origin(level, _rest_of(level)),)
        return Trace(wanted, place.text, origins, also, _files(self.run, place.section, origins))

    def _of_sentence(self, place: Place) -> Iterator[Origin]:
        for code in lines_of(self.run, self.results, place.section.anchor, place.text):
            yield Origin(code, _rest_of(code))

    def _cells_of(self, place: Place) -> Iterator[str]:
        """Cells that print a number of a sentence, in a row of a policy or criterion it names: of tables of its own
        section, and for the summary of those of the first phase."""
        tokens, sentence = set(formats.numbers_in(place.text)), place.text.lower()
        sections = {place.section.anchor, next(iter(self.results.phases)) if place.section.anchor == "summary" else ""}
        for identity, cell in self.places.items():
            if (
                cell.shown is None
                or cell.section.anchor not in sections
                or not tokens & set(formats.numbers_in(cell.text))
            ):
                continue
            named = zip(cell.shown.rows[cell.row], cell.shown.columns, strict=True)
            labels = [name for name, column in named if not column.number]
            if labels and all(label.lower() in sentence for label in labels if label):
                yield identity

    def _of_cell(self, place: Place) -> Iterator[Origin]:
        assert place.shown is not None
        layout, phase = _layout_of(self.results, place.shown)
        if layout is None:
            for code in lines_for(self.run, place.shown, place.row, place.column):
                yield Origin(code, _rest_of(code))
            return
        row, across = place.shown.rows[place.row], place.column - len(layout.keys)
        names = dict(zip(layout.keys, row, strict=False)) | ({"phase": phase} if phase else {})
        values = layout.values[across % len(layout.values)] if across >= 0 else (layout.keys[place.column],)
        if layout.by_criterion:
            names["criterion"] = self.results.phases[names["phase"]]["criteria"][across // len(layout.values)]
        for value in values:
            table, _, column = value.rpartition(".")
            table = table or layout.table
            (found,) = (
                one
                for one in self.results.tables[table]
                if all(formats.title(str(one[key])) == formats.title(name) for key, name in names.items() if key in one)
            )
            code, from_verdicts = code_for(self.run, table, column, found, self.results.summary["settings"])
            yield Origin(code, "verdicts" if from_verdicts else "statistics", table, column, found)


def _rest_of(code: str) -> Rest:
    if _ASKED.search(code):
        return "package"
    parts: tuple[Rest, ...] = ("verdicts", "statistics")
    return next((one for one in parts if f"{one}/" in code), "files")


def _everything(sections: Sequence[Section]) -> Iterator[tuple[str, Place]]:
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


def _settings(section: Section) -> Iterator[tuple[str, Place]]:
    """The facts, captions and paragraphs of ``section`` that print numbers; versions of software are none."""
    told = {f"{section.anchor}.paste{at}": _CITED.sub("", one) for at, one in enumerate(section.paste.values(), 1)}
    if section.anchor != "provenance":
        told |= {f"{section.anchor}.fact{at}": one for at, one in enumerate(section.facts.values(), 1)}
    told |= {f"{one.file}.caption": one.caption for one in section.tables}
    told |= {f"{one.name}.caption": one.caption for one in section.pictures}
    yield from ((identity, Place(one, section)) for identity, one in told.items() if formats.numbers_in(one))


def _layout_of(results: Results, shown: Shown) -> tuple[Layout | None, str | None]:
    """How a table shows one of the statistics, and the phase that it is of; no layout for other tables."""
    phase = next((one for one in results.phases if shown.file.startswith(f"{one}_")), None)
    return LAYOUTS.get(shown.file.removeprefix(f"{phase}_") if phase else shown.file), phase


def _files(run: Run, section: Section, origins: Sequence[Origin]) -> tuple[tuple[str, str, str, str], ...]:
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
