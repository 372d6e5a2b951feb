"""Section on the audit: would the conclusions survive their judge, and what would make them surer?"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from modpo_hpc.audit.run import VERSION, audit
from modpo_hpc.audit.total_error import ANSWERS
from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.tables import finite
from modpo_hpc.report import formats
from modpo_hpc.report.audit_tables import alpha, audit_tables, share
from modpo_hpc.report.parts import ReportFigure, ReportSection
from modpo_hpc.report.style import COLOURS, canvas, quiet_grid
from modpo_hpc.run import Run

Document = dict[str, Any]


def audit_section(run: Run) -> ReportSection | None:
    """Nothing after a sequential stop."""
    return None if run.study.judging.stop == "sequential" else section_of(read_audit(run))


def read_audit(run: Run) -> Document:
    """What ``modpo audit`` kept, or what can be said before anybody was asked."""
    path = run.root / "audit" / "audit.json"
    document: Document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else finite(audit(run, None))
    if document.get("version") != VERSION:
        raise InputError(
            "this audit was kept by another version", file=path, remedy=f"Make it again: modpo audit {run.quoted}"
        )
    return document


def section_of(document: Document) -> ReportSection:
    """The audit in sentences and tables: what is known, what is not, what to do next."""
    return ReportSection(
        "audit",
        "Would the conclusions survive their judge?",
        lead="Error of the judge against people, total error of the comparisons, and what would narrow it next.",
        findings=[
            *(f"Known: {one}" for one in known(document)),
            *(f"Not known: {one}" for one in unknown(document)),
            *(f"Next: {one}" for one in next_steps(document)),
        ],
        figures=_figures(document),
        tables=audit_tables(document),
    )


def known(document: Document) -> list[str]:
    """What people's labels settle, the total error, and favours for a judge's own family that are measured."""
    found = [_preference(document, row) for row in _criteria(document) if _settled(row)]
    for row in document["components"]:
        if not row["naive"] or not row["total"]:
            continue
        sources = {name: value for name, value in row["sources"].items() if value is not None}
        found.append(
            f"{_name(row)} in {row['phase']}: the standard error of a difference in votes is {100 * row['total']:.1f} "
            f"points, {row['total'] / row['naive']:.1f} times that of independent votes; the largest part is "
            f"{max(sources, key=lambda name: sources[name])}."
        )
    for row in document["families"]:
        if row["favour"] is not None and not row["low"] <= 0 <= row["high"]:
            found.append(
                f"{_name(row)} in {row['phase']}: {row['judge']} gives {', '.join(row['policies'])}, of its own "
                f"family, {100 * abs(row['favour']):.1f} points {'more' if row['favour'] > 0 else 'less'} of its "
                "votes than judges of neither family do."
            )
    return found


def unknown(document: Document) -> list[str]:
    """What people's labels leave open, what is in no interval, and what cannot be told apart."""
    found = [_preference(document, row) for row in _criteria(document) if not _settled(row)]
    if not document["people"]:
        found.append("how far the judge errs: nobody was asked, so its error is in no interval of this report.")
    without = [f"{source} ({why})" for source, why in document["unmeasured"].items() if source != ANSWERS]
    if without:
        found.append(f"sources of error without data, in no interval: {'; '.join(without)}.")
    if ANSWERS in document["unmeasured"]:
        found.append(
            f"how much of the questions' part is the sampling of the answers: {document['unmeasured'][ANSWERS]}."
        )
    alone = {(row["judge"], *row["policies"]) for row in document["families"] if row["favour"] is None}
    found += [
        f"whether {judge} favours {', '.join(policies)}, of its own family of models: no judge of neither family "
        "says the like of the same answers."
        for judge, *policies in sorted(alone)
    ]
    return found


def next_steps(document: Document) -> list[str]:
    """What to ask people, and what more calls are best spent on."""
    found = []
    criteria = _criteria(document)
    if not document["people"]:
        found.append("ask people about a hundred questions (modpo human sample DIR), and the judge's error has a size.")
    if at_odds := [formats.title(row["criterion"]) for row in criteria if row["raters"]["at_odds"]]:
        found.append(
            f"no more labels for {', '.join(at_odds)} until raters agree: clearer definitions, examples, other raters."
        )
    still_open = [row["criterion"] for row in criteria if not _settled(row) and not row["raters"]["at_odds"]]
    if still_open:
        found.append(
            f"label the questions that tell most of {', '.join(map(formats.title, still_open))}: "
            f"modpo human sample DIR --next {still_open[0]}."
        )
    bought: dict[tuple[str, str, int, int], list[str]] = {}
    for row in document["components"]:
        if row["purchases"]:
            best = row["purchases"][0]
            key = row["phase"], best["factor"], best["levels"], row["calls"]
            bought.setdefault(key, []).append(
                f"{formats.title(row['criterion'])} from {100 * row['total']:.1f} to {100 * best['error']:.1f} points"
            )
    found += [
        f"{calls:,} more calls in {phase} are best spent on {levels:,} more {factor}: {', '.join(gains)}."
        for (phase, factor, levels, calls), gains in bought.items()
    ]
    return found


def _criteria(document: Document) -> list[Document]:
    return document["people"]["criteria"] if document["people"] else []


def _settled(row: Document) -> bool:
    """Whether raters who agree with each other say which of the two policies is preferred."""
    powered = row["prediction_powered"]
    return bool(powered) and not row["raters"]["at_odds"] and not powered["low"] <= 0.5 <= powered["high"]


def _preference(document: Document, row: Document) -> str:
    """What people's labels make of the judge's win rate under one criterion."""
    people, powered = document["people"], row["prediction_powered"]
    whose = "simulated raters" if people["simulated"] else "people"
    if row["raters"]["at_odds"]:
        return (
            f"{_name(row)}: the raters agree with each other no better than chance by Krippendorff's alpha, "
            f"{alpha(row['raters'])}, so that their labels say nothing for the judge or against it."
        )
    if powered is None:
        return f"{_name(row)}: {row['labels']} labels by {whose} are too few for an interval."
    sentence = (
        f"{_name(row)}: the judge gives {people['a']} {formats.percent(powered['naive'])} of its votes against "
        f"{people['b']}; by the label of {whose}, {powered['labels']} of them known, it is preferred on "
        f"{share(powered['estimate'], powered['low'], powered['high'])} of the questions"
    )
    half = "above" if powered["low"] > 0.5 else "below"
    settled = f", {half} one half. " if _settled(row) else ", so that which of the two is preferred is open. "
    return sentence + settled + worth(powered, row["corrected"])


def worth(powered: Document, corrected: Document | None) -> str:
    """How many labels by people the judge stands for."""
    if powered["constant"] or (corrected is not None and corrected["constant"]):
        return "The judge says the same of every question, so it is worth no label at all."
    if not powered["shown"]:
        return "The judge's votes are not shown to follow people's labels, so it is worth nothing that can be shown."
    return f"The judge is worth {powered['worth']:.0f} labels more."


def _name(row: Document) -> str:
    return formats.title(row["criterion"]).capitalize()


def _figures(document: Document) -> list[ReportFigure]:
    told = [row for row in _criteria(document) if row["prediction_powered"] and not row["raters"]["at_odds"]]
    if not told:
        return []
    return [
        ReportFigure(
            "audit_rates",
            "Win rates by the judge, by people's labels, and by both together. The prediction-powered interval assumes "
            "nothing of the judge; nor does the one of its errors, which is of majorities on decided questions.",
            partial(rates_figure, {**document["people"], "criteria": told}),
        )
    ]


def rates_figure(people: Document) -> Figure:
    """The judge's win rates beside people's and the corrected ones, with their intervals."""
    rows = people["criteria"]
    figure, axes = canvas(6.2, 0.9 + 0.75 * len(rows))
    for place, row in enumerate(reversed(rows)):
        powered, corrected = row["prediction_powered"], row["corrected"]
        lines = [
            ("judge alone", powered["naive"], powered["naive"], powered["naive"]),
            ("labels alone", powered["classical"], powered["classical_low"], powered["classical_high"]),
            ("prediction-powered", powered["estimate"], powered["low"], powered["high"]),
        ]
        if corrected and corrected["informative"]:
            lines.append(("judge's errors corrected", corrected["estimate"], corrected["low"], corrected["high"]))
        for number, (name, value, low, high) in enumerate(lines):
            axes.errorbar(
                100 * value,
                place + 0.27 - 0.18 * number,
                xerr=[[100 * max(value - low, 0)], [100 * max(high - value, 0)]],
                fmt="o",
                color=COLOURS[number],
                capsize=2,
                markersize=4,
                label=name if place == 0 else None,
            )
    axes.axvline(50, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [formats.title(row["criterion"]) for row in reversed(rows)])
    axes.set(ylim=(-0.5, len(rows) - 0.4), xlim=(0, 100))
    axes.set_xlabel(f"questions for {people['a']} against {people['b']} (%)")
    quiet_grid(axes, "x")
    figure.legend(loc="outside upper center", ncols=2, fontsize=7.5)
    return figure
