"""Section on the audit: would the conclusions survive their judge, and what would make them surer?"""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

from modpo_hpc.audit.run import audit, finite
from modpo_hpc.report import formats
from modpo_hpc.report.audit_figures import rates_figure
from modpo_hpc.report.parts import Picture, Section, Shown, numbers, text
from modpo_hpc.run import Run

Document = dict[str, Any]
SOURCES = ("questions", "personas", "votes", "judges", "wording", "judge sampling", "seed")


def audit_section(run: Run) -> Section | None:
    """What ``modpo audit`` kept, or what can be said before anybody was asked; nothing after a sequential stop."""
    if run.study.judging.stop == "sequential":
        return None
    path = run.root / "audit" / "audit.json"
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else finite(audit(run, None))
    return section_of(document)


def section_of(document: Document) -> Section:
    """The audit in sentences and tables."""
    people = document["people"]
    return Section(
        "audit",
        "Would the conclusions survive their judge?",
        lead="Error of the judge against people, total error of the comparisons, and what would narrow it next.",
        findings=[*people_findings(people), *error_findings(document)],
        pictures=_pictures(people),
        tables=[
            *(_people_tables(people) if people else []),
            _component_table(document),
            *_purchase_tables(document),
            _judge_table(document),
            *_ability_tables(document),
        ],
    )


def people_findings(people: Document | None) -> list[str]:
    """What people's labels make of the judge's win rates, a sentence or two a criterion."""
    if people is None:
        return [
            "Nobody was asked, so the error of the judge itself is unknown and in no interval of this report. "
            "A hundred labels by people would tell: modpo human sample."
        ]
    found = []
    whose = "simulated raters" if people["simulated"] else "people"
    for row in people["criteria"]:
        name, powered, corrected = (
            formats.title(row["criterion"]).capitalize(),
            row["prediction_powered"],
            row["corrected"],
        )
        if powered is None:
            found.append(f"{name}: {row['labels']} labels by {whose} are too few for an interval.")
            continue
        sentence = (
            f"{name}: the judge gives {people['a']} {formats.percent(powered['naive'])} of its votes against "
            f"{people['b']}; by the label of {whose}, {powered['labels']} of them known, it is preferred on "
            f"{_share(powered, 'estimate')} of the questions"
        )
        half = "above" if powered["low"] > 0.5 else "below" if powered["high"] < 0.5 else ""
        sentence += f", {half} one half. " if half else ", so that which of the two is preferred is open. "
        found.append(sentence + worth(powered, corrected))
    return found


def worth(powered: Document, corrected: Document | None) -> str:
    """How many labels by people the judge stands for."""
    if powered["constant"] or (corrected is not None and corrected["constant"]):
        return "The judge says the same of every question, so it is worth no label at all."
    if not powered["shown"]:
        return "The judge's votes are not shown to follow people's labels, so it is worth nothing that can be shown."
    return f"The judge is worth {powered['worth']:.0f} labels more."


def error_findings(document: Document) -> list[str]:
    """The size of the total error beside the naive one, its largest part, and what is in no number."""
    found = []
    for row in document["components"]:
        if not row["naive"] or not row["total"]:
            continue
        sources = {name: value for name, value in row["sources"].items() if value is not None}
        largest = max(sources, key=lambda name: sources[name])
        found.append(
            f"{formats.title(row['criterion']).capitalize()} in {row['phase']}: the standard error of a difference is "
            f"{100 * row['total']:.1f} points, {row['total'] / row['naive']:.1f} times that of independent votes; "
            f"the largest part is {largest}."
        )
        if row["purchases"]:
            best = row["purchases"][0]
            found[-1] += (
                f" {row['calls']:,} more calls are best spent on {best['levels']:,} more {best['factor']} "
                f"({100 * best['error']:.1f} points)."
            )
    if document["unmeasured"]:
        listed = "; ".join(f"{source} ({why})" for source, why in document["unmeasured"].items())
        found.append(f"Not measured, and in no interval: {listed}.")
    return found


def _pictures(people: Document | None) -> list[Picture]:
    if people is None or not any(row["prediction_powered"] for row in people["criteria"]):
        return []
    return [
        Picture(
            "audit_rates",
            "Win rates by the judge, by people's labels, and by both together. The prediction-powered interval assumes "
            "nothing of the judge; the correction by sensitivity and specificity is of decided questions.",
            partial(rates_figure, people),
        )
    ]


def _people_tables(people: Document) -> list[Shown]:
    powered = [
        [
            formats.title(row["criterion"]),
            str(one["labels"]),
            formats.percent(one["naive"]),
            _share(one, "classical", "classical_low", "classical_high"),
            _share(one, "estimate"),
            _decimals(one["correlation"], 2),
            f"{one['worth']:.0f}" if one["shown"] else "nothing shown",
        ]
        for row in people["criteria"]
        if (one := row["prediction_powered"])
    ]
    errors = [
        [
            formats.title(row["criterion"]),
            " / ".join(str(row["counts"][name]) for name in ("a_a", "a_b", "b_a", "b_b")),
            _of(one["sensitivity"]),
            _of(one["specificity"]),
            formats.percent(one["rate"]),
            _share(one, "estimate") if one["informative"] else "open (0–100)",
            _share(one, "estimate", "delta_low", "delta_high") if one["informative"] else "",
        ]
        for row in people["criteria"]
        if (one := row["corrected"])
    ]
    headings = ("labels", "judge's votes", "labels alone", "prediction-powered", "correlation", "worth in labels")
    others = ("sensitivity", "specificity", "judge", "corrected (Lee et al.)", "delta method")
    return [
        Shown(
            f"Questions for {people['a']} against {people['b']}, ties as halves: by judge, by people's labels, by both",
            [text("Criterion"), *numbers(*headings)],
            powered,
            "audit_prediction_powered",
        ),
        Shown(
            "The judge's errors on decided questions, and its win rate corrected for them. Counts: people's A called "
            "A, A called B, B called A, B called B",
            [text("Criterion"), text("Counts"), *numbers(*others)],
            errors,
            "audit_corrected",
        ),
    ]


def _component_table(document: Document) -> Shown:
    rows = [
        [
            row["phase"],
            formats.title(row["criterion"]),
            _points(row["naive"]),
            *(_points(row["sources"].get(source)) for source in SOURCES),
            _points(row["total"]),
        ]
        for row in document["components"]
    ]
    return Shown(
        "Standard errors of the difference in votes for two policies, in points, by source (root mean square over the "
        "pairs); empty where the study has no data",
        [text("Phase"), text("Criterion"), *numbers("if independent", *SOURCES, "total")],
        rows,
        "audit_components",
    )


def _purchase_tables(document: Document) -> list[Shown]:
    rows = [
        [
            row["phase"],
            formats.title(row["criterion"]),
            f"{row['calls']:,}",
            f"{one['levels']:,} {one['factor']}",
            _points(row["total"]),
            _points(one["error"]),
        ]
        for row in document["components"]
        for one in row["purchases"]
    ]
    if not rows:
        return []
    columns = [text("Phase"), text("Criterion"), *numbers("more calls"), text("Spent on"), *numbers("now", "then")]
    return [Shown("What more calls would make of the standard error, in points", columns, rows, "audit_design")]


def _judge_table(document: Document) -> Shown:
    rows = [
        [
            row["phase"],
            formats.title(row["criterion"]),
            row["judge"],
            _share(row, "first_share", "first_low", "first_high"),
            _slope(row),
        ]
        for row in document["judges"]
    ]
    return Shown(
        "What moves a judge: votes for the answer shown first (half without bias), and log-odds for one standard "
        "deviation more of length than is usual for a pair. Favour for a judge's own family of models is not measured",
        [text("Phase"), text("Criterion"), text("Judge"), *numbers("shown first", "length")],
        rows,
        "audit_judges",
        folded=True,
    )


def _ability_tables(document: Document) -> list[Shown]:
    rows = [
        [
            row["phase"],
            formats.title(row["criterion"]),
            row["kind"],
            row["name"],
            f"{_decimals(row['value'], 2)} ({_decimals(row['low'], 2)} to {_decimals(row['high'], 2)})",
        ]
        for row in document["abilities"]
    ]
    if not rows:
        return []
    return [
        Shown(
            "Judge-aware Bradley-Terry: abilities of the policies (log-odds) with each judge weighted by how sharply "
            "it tells them apart (discrimination, 1 on average)",
            [text("Phase"), text("Criterion"), text("What"), text("Name"), *numbers("ability or discrimination")],
            rows,
            "audit_judge_aware",
            folded=True,
        )
    ]


def _share(row: Document, value: str, low: str = "low", high: str = "high") -> str:
    if row[value] is None:
        return ""
    return f"{formats.percent(row[value])} ({formats.interval(row[low], row[high])})"


def _slope(row: Document) -> str:
    if row["length_slope"] is None:
        return ""
    slope, low, high = (_decimals(row[name], 2) for name in ("length_slope", "length_low", "length_high"))
    return f"{slope} ({low} to {high})"


def _of(share: Document) -> str:
    return "" if share["value"] is None else f"{_share(share, 'value')} of {share['cases']}"


def _points(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _decimals(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
