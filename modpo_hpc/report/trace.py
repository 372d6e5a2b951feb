"""From a number of the report back to what it rests on, and the lines that compute it again.

Every cell of a table has the id ``<table>.<row>.<column>`` and every sentence ``<section>.<sentence>``, counted from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modpo_hpc.core.markers import read_marker
from modpo_hpc.errors import InputError
from modpo_hpc.report import formats
from modpo_hpc.report.contents import sections_of
from modpo_hpc.report.parts import Section, Shown
from modpo_hpc.report.results import Results, read_results
from modpo_hpc.report.trace_code import code_for
from modpo_hpc.run import Run

NUMBER = re.compile(r"(?<![\w.])[+-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?![\w.]*[A-Za-z_])")


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
    "length_control": Layout(
        "length_control",
        ("phase", *PAIR),
        (("length_a",), ("length_b",), ("win_rate",), ("controlled",), ("low", "high"), ("slope",)),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """Where one printed number comes from: a column of a row of the statistics, and the code that gives its value."""

    table: str
    column: str
    row: Mapping[str, Any]
    code: str
    from_verdicts: bool


@dataclass(frozen=True)
class Trace:
    """A cell or a sentence: its text, the origin of each of its numbers, and what is behind it.

    ``also`` are the cells that print a sentence's numbers, ``files`` are (stage, shard, file, SHA-256).
    """

    id: str
    text: str
    origins: tuple[Origin, ...]
    also: tuple[str, ...]
    files: tuple[tuple[str, str, str, str], ...]


def trace(run: Run, wanted: str, read: tuple[Results, list[Section]] | None = None) -> Trace:
    """What is behind the cell or the sentence ``wanted``; ``read`` gives results and sections to one who has them.

    Raises:
        InputError: the report has no such id.
    """
    results, sections = read or read_report(run)
    for identity, text, section, shown, place in _everything(sections):
        if identity == wanted:
            origins = _origins(run, results, shown, place) if shown is not None and place is not None else ()
            also = () if shown is not None else _cells_with(text, sections)
            return Trace(wanted, text, origins, also, _files(run, section, origins))
    raise InputError(
        "the report has no such number", field="ID", value=wanted, remedy=f"List all ids: modpo trace {run.root}"
    )


def read_report(run: Run) -> tuple[Results, list[Section]]:
    """The results of ``run`` and the sections of its report."""
    results = read_results(run)
    return results, sections_of(run, results)


def all_ids(run: Run) -> list[tuple[str, str]]:
    """Every (id, text) of the report that holds a number."""
    return [(identity, text) for identity, text, *_ in _everything(sections_of(run, read_results(run)))]


def _everything(
    sections: Sequence[Section],
) -> Iterator[tuple[str, str, Section, Shown | None, tuple[int, int] | None]]:
    for section in sections:
        for number, sentence in enumerate([section.lead, *section.findings]):
            if NUMBER.search(sentence):
                yield f"{section.anchor}.{number}", sentence, section, None, None
        for shown in section.tables:
            for up, row in enumerate(shown.rows):
                for across, cell in enumerate(row):
                    if shown.columns[across].number and NUMBER.search(cell.replace("–", " ")):
                        yield f"{shown.file}.{up + 1}.{across + 1}", cell, section, shown, (up, across)


def _origins(run: Run, results: Results, shown: Shown, place: tuple[int, int]) -> tuple[Origin, ...]:
    phase = next((one for one in results.phases if shown.file.startswith(f"{one}_")), None)
    layout = LAYOUTS.get(shown.file.removeprefix(f"{phase}_") if phase else shown.file)
    if layout is None:
        return ()
    row, across = shown.rows[place[0]], place[1] - len(layout.keys)
    names = dict(zip(layout.keys, row, strict=False)) | ({"phase": phase} if phase else {})
    values = layout.values[across % len(layout.values)] if across >= 0 else (layout.keys[place[1]],)
    if layout.by_criterion:
        names["criterion"] = results.phases[names["phase"]]["criteria"][across // len(layout.values)]
    origins = []
    for value in values:
        table, _, column = value.rpartition(".")
        table = table or layout.table
        (found,) = (
            one
            for one in results.tables[table]
            if all(formats.title(str(one[key])) == formats.title(name) for key, name in names.items() if key in one)
        )
        code, from_verdicts = code_for(run, table, column, found, results.summary["settings"])
        origins.append(Origin(table, column, found, code, from_verdicts))
    return tuple(origins)


def _cells_with(sentence: str, sections: Sequence[Section]) -> tuple[str, ...]:
    """Cells of tables that print a number of ``sentence`` and whose row is of a policy or criterion it names."""
    tokens = set(NUMBER.findall(sentence))
    found = []
    for identity, cell, _, shown, place in _everything(sections):
        if shown is None or place is None or not tokens & set(NUMBER.findall(cell.replace("–", " "))):
            continue
        labels = [name for name, column in zip(shown.rows[place[0]], shown.columns, strict=True) if not column.number]
        if labels and all(label.lower() in sentence.lower() for label in labels if label):
            found.append(identity)
    return tuple(found)


def _files(run: Run, section: Section, origins: Sequence[Origin]) -> tuple[tuple[str, str, str, str], ...]:
    stages = {
        "people": ("questions", "personas"),
        "training": ("policies", "conditioned"),
        "fronts": ("fronts",),
        "rewards": ("rewards",),
        "toxicity": ("toxicity",),
        "cost": (),
        "provenance": (),
    }.get(section.anchor, ("statistics", "verdicts"))
    wanted = {f"{one.row['phase']}." for one in origins}
    pairs = [{one.row[key] for key in ("policy", "policy_a", "policy_b") if one.row.get(key)} for one in origins]
    found = []
    for stage in stages:
        for shard in run.shard_ids(stage):
            of_pair = not pairs or any(names <= set(shard.split(".")) for names in pairs)
            if stage == "verdicts" and not (of_pair and (not wanted or any(map(shard.startswith, wanted)))):
                continue
            marker = read_marker(run.folder(stage), shard)
            for file, output in (marker.outputs if marker else {}).items():
                if stage != "statistics" or any(file == f"{one.table}.parquet" for one in origins) or not origins:
                    found.append((stage, shard, f"{stage}/{file}", output.sha256))
    return tuple(found)
