"""Tables of the audit."""

from __future__ import annotations

import math
from typing import Any

from modpo_hpc.report import formats
from modpo_hpc.report.parts import Shown, numbers, text

Document = dict[str, Any]
SOURCES = ("questions", "answers", "personas", "votes", "judges", "wording", "judge sampling", "seed")


def audit_tables(document: Document) -> list[Shown]:
    """What people make of the judge, the errors by source, what calls would buy, and what moves a judge."""
    return [
        *(_people_tables(document["people"]) if document["people"] else []),
        _component_table(document),
        *_purchase_tables(document),
        _judge_table(document),
        *_family_tables(document),
        *_ability_tables(document),
    ]


def _people_tables(people: Document) -> list[Shown]:
    powered = [
        [
            formats.title(row["criterion"]),
            str(one["labels"]),
            formats.percent(one["naive"]),
            share(one, "classical", "classical_low", "classical_high"),
            share(one, "estimate"),
            _decimals(one["correlation"], 2),
            "raters at odds"
            if row["raters"]["at_odds"]
            else f"{one['worth']:.0f}"
            if one["shown"]
            else "nothing shown",
            alpha(row["raters"]),
        ]
        for row in people["criteria"]
        if (one := row["prediction_powered"])
    ]
    errors = [
        [
            formats.title(row["criterion"]),
            " / ".join(f"{row['counts'][name]:.0f}" for name in ("a_a", "a_b", "b_a", "b_b")),
            _of(one["sensitivity"]),
            _of(one["specificity"]),
            formats.percent(one["rate"]),
            share(one, "estimate") if one["informative"] else "open (0–100)",
        ]
        for row in people["criteria"]
        if (one := row["corrected"])
    ]
    headings = (
        "labels",
        "judge's votes",
        "labels alone",
        "prediction-powered",
        "correlation",
        "worth in labels",
        "raters' alpha",
    )
    others = ("sensitivity", "specificity", "judge", "corrected")
    return [
        Shown(
            f"Questions for {people['a']} against {people['b']}, ties as halves: by judge, by people's labels, by both",
            [text("Criterion"), *numbers(*headings)],
            powered,
            "audit_prediction_powered",
        ),
        Shown(
            "The judge's errors on decided questions, and its win rate corrected for them. Counts, weighted by their "
            "probability to be drawn: people's A called A, A called B, B called A, B called B",
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
        "pairs); empty where the study has no data. The sampling of the answers is a part of the questions where it is "
        "not told apart",
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
            share(row, "first_share", "first_low", "first_high"),
            _slope(row),
        ]
        for row in document["judges"]
    ]
    return Shown(
        "What moves a judge: votes for the answer shown first (half without bias), and log-odds for one standard "
        "deviation more of length than is usual for a pair",
        [text("Phase"), text("Criterion"), text("Judge"), *numbers("shown first", "length")],
        rows,
        "audit_judges",
        folded=True,
    )


def _family_tables(document: Document) -> list[Shown]:
    rows = [
        [
            row["phase"],
            formats.title(row["criterion"]),
            row["judge"],
            f"{row['family']}: {', '.join(row['policies'])}",
            ", ".join(row["others"]) or "nobody",
            ""
            if row["favour"] is None
            else f"{_points(row['favour'])} ({_points(row['low'])} to {_points(row['high'])})",
        ]
        for row in document["families"]
    ]
    if not rows:
        return []
    columns = [*map(text, ("Phase", "Criterion", "Judge", "Its family", "Beside")), *numbers("favour, points")]
    return [
        Shown(
            "Favour of a judge for its own family of models: share of its votes for policies of that family, less that "
            "of judges of neither family over the same questions and personas",
            columns,
            rows,
            "audit_families",
            folded=True,
        )
    ]


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


def share(row: Document, value: str, low: str = "low", high: str = "high") -> str:
    if row[value] is None:
        return ""
    return f"{formats.percent(row[value])} ({formats.interval(row[low], row[high])})"


def _slope(row: Document) -> str:
    if row["length_slope"] is None:
        return ""
    slope, low, high = (_decimals(row[name], 2) for name in ("length_slope", "length_low", "length_high"))
    return f"{slope} ({low} to {high})"


def _of(row: Document) -> str:
    return "" if row["value"] is None else f"{share(row, 'value')} of {row['cases']:.0f}"


def _points(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _decimals(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def alpha(raters: Document) -> str:
    """Krippendorff's alpha of the raters with its interval."""
    if raters["alpha"] is None:
        return ""
    value, low, high = (_decimals(raters[name], 2) for name in ("alpha", "alpha_low", "alpha_high"))
    return f"{value} ({low} to {high})"
