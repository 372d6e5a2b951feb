"""The report as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from modpo_hpc.report import words
from modpo_hpc.report.results import Results


@dataclass(frozen=True)
class Column:
    """A column of a table on the page: its heading, and whether it holds numbers."""

    heading: str
    number: bool = True


@dataclass(frozen=True)
class Shown:
    """A table on the page: cells are texts; a row in ``strong`` marks cells (row, column) that stand out."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    strong: frozenset[tuple[int, int]] = frozenset()
    file: str | None = None
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure on the page, by the name of its files."""

    name: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences, pictures and tables under a heading."""

    anchor: str
    heading: str
    lead: str = ""
    findings: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Shown] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def render(results: Results, sections: Sequence[Section], svgs: Mapping[str, bytes]) -> str:
    """The page as HTML. ``svgs`` holds the bytes of every picture that the sections name."""
    environment = Environment(
        loader=PackageLoader("modpo_hpc.report"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = {name: "data:image/svg+xml;base64," + base64.b64encode(svg).decode() for name, svg in svgs.items()}
    return environment.get_template("report.html.j2").render(
        study=results.summary["study"], mark=results.mark, sections=sections, pictures=pictures
    )


def phase_section(results: Results, phase: str) -> Section:
    """Results of one phase: what was found, the figures of the paper, and the tables behind them."""
    criteria = results.phases[phase]["criteria"]
    pictures = [
        Picture(
            f"{phase}_{x}_{y}",
            f"Average win rates under {words.title(x)} and {words.title(y)}, with intervals of the two-way bootstrap. "
            "The dashed line joins the Pareto front.",
        )
        for place, x in enumerate(criteria)
        for y in criteria[place + 1 :]
    ]
    pictures.append(Picture(f"{phase}_ranking", "Ranking of the policies by average win rate over all opponents."))
    for criterion in criteria:
        pictures.append(
            Picture(
                f"{phase}_{criterion}_head_to_head", f"Head to head under {words.title(criterion)}, best policy first."
            )
        )
        pictures.append(
            Picture(
                f"{phase}_{criterion}_significance",
                f"Significance under {words.title(criterion)}: {words.test_words(results)}.",
            )
        )
    return Section(
        anchor=phase,
        heading=f"Results of {phase}",
        lead=words.phase_line(results, phase) + ".",
        findings=words.findings(results, phase),
        pictures=pictures,
        tables=[_ranking_table(results, phase), _mcnemar_table(results, phase)],
    )


def _ranking_table(results: Results, phase: str) -> Shown:
    criteria = results.phases[phase]["criteria"]
    columns = [Column("Policy", number=False)]
    for criterion in criteria:
        columns += [Column(words.title(criterion).capitalize()), Column("interval"), Column("rank"), Column("P(best)")]
    rows, strong = [], set()
    for place, (policy, by_criterion) in enumerate(results.by_policy(phase).items()):
        cells = [policy]
        for criterion in criteria:
            row = by_criterion[criterion]
            if row["rank"] == 1:
                strong.add((place, len(cells)))
            cells += [
                words.percent(row["win_rate"]),
                words.interval(row["low"], row["high"]),
                str(row["rank"]),
                words.percent(row["best_probability"], 0),
            ]
        rows.append(cells)
    return Shown(
        "Average win rate over all opponents. Intervals and P(best) come from questions and personas drawn again.",
        columns,
        rows,
        frozenset(strong),
        file="ranking",
    )


def _mcnemar_table(results: Results, phase: str) -> Shown:
    criteria = results.phases[phase]["criteria"]
    columns = [Column("A", number=False), Column("B", number=False)]
    for criterion in criteria:
        columns += [Column(words.title(criterion).capitalize()), Column("ties"), Column("p"), Column("odds ratio")]
    tests: dict[tuple[str, str], dict[str, Any]] = {}
    for row in results.rows("mcnemar", phase=phase):
        tests.setdefault((row["policy_a"], row["policy_b"]), {})[row["criterion"]] = row
    rows, strong = [], set()
    for place, ((a, b), by_criterion) in enumerate(tests.items()):
        cells = [a, b]
        for criterion in criteria:
            row = by_criterion[criterion]
            if row["significant"]:
                strong.add((place, len(cells)))
            cells += [
                f"{row['b']} {words.comparison_sign(row)} {row['c']}",
                str(row["ties"]),
                words.p_value(row["p"]),
                words.odds(row),
            ]
        rows.append(cells)
    return Shown(
        f"Questions won by A and by B. p: {words.test_words(results)}, without correction; > and < mark what is "
        f"significant {words.correction_words(results)}, ~ what is not.",
        columns,
        rows,
        frozenset(strong),
        file="mcnemar",
    )
