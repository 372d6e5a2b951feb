"""Tables of the audit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modpo_hpc.report import formats
from modpo_hpc.report.columns import CRITERION, JUDGE, PHASE
from modpo_hpc.report.parts import Shown, filled, number, table, text

Document = dict[str, Any]
SOURCES = ("questions", "answers", "personas", "votes", "judges", "wording", "judge sampling", "seed")
COUNTS = ("a_a", "a_b", "b_a", "b_b")


def audit_tables(document: Document) -> list[Shown]:
    """What people make of the judge, the errors by source, what calls would buy, and what moves a judge."""
    return [
        *(_people_tables(document["people"]) if document["people"] else []),
        _component_table(document),
        *filled(_purchase_table(document)),
        _judge_table(document),
        *filled(_family_table(document), _ability_table(document)),
    ]


def _people_tables(people: Document) -> list[Shown]:
    return [
        table(
            f"Questions for {people['a']} against {people['b']}, ties as halves: by judge, by people's labels, by both",
            [
                CRITERION,
                number("labels", str, "labels"),
                number("judge's votes", formats.percent, "naive"),
                number("labels alone", share, "classical", "classical_low", "classical_high"),
                number("prediction-powered", share, "estimate", "low", "high"),
                number("correlation", _decimals, "correlation"),
                number("worth in labels", _worth, "raters", "shown", "worth"),
                number("raters' alpha", alpha, "raters"),
            ],
            [row | row["prediction_powered"] for row in people["criteria"] if row["prediction_powered"]],
            "audit_prediction_powered",
        ),
        table(
            "The judge's errors on decided questions, and its win rate corrected for them. Counts, weighted by their "
            "probability to be drawn: people's A called A, A called B, B called A, B called B",
            [
                CRITERION,
                text("Counts", "counts", lambda counts: " / ".join(f"{counts[name]:.0f}" for name in COUNTS)),
                number("sensitivity", _of, "sensitivity"),
                number("specificity", _of, "specificity"),
                number("judge", formats.percent, "rate"),
                number("corrected", _corrected, "informative", "estimate", "low", "high"),
            ],
            [row | row["corrected"] for row in people["criteria"] if row["corrected"]],
            "audit_corrected",
        ),
    ]


def _component_table(document: Document) -> Shown:
    return table(
        "Standard errors of the difference in votes for two policies, in points, by source (root mean square over the "
        "pairs); empty where the study has no data. The sampling of the answers is a part of the questions where it is "
        "not told apart",
        [
            PHASE,
            CRITERION,
            number("if independent", formats.points, "naive"),
            *(
                number(source, lambda found, source=source: formats.points(found.get(source)), "sources")
                for source in SOURCES
            ),
            number("total", formats.points, "total"),
        ],
        document["components"],
        "audit_components",
    )


def _purchase_table(document: Document) -> Shown:
    return table(
        "What more calls would make of the standard error, in points",
        [
            PHASE,
            CRITERION,
            number("more calls", "{:,}".format, "calls"),
            replace(number("Spent on", "{:,} {}".format, "levels", "factor"), number=False),
            number("now", formats.points, "total"),
            number("then", formats.points, "error"),
        ],
        [row | one for row in document["components"] for one in row["purchases"]],
        "audit_design",
    )


def _judge_table(document: Document) -> Shown:
    return table(
        "What moves a judge: votes for the answer shown first (half without bias), and log-odds for one standard "
        "deviation more of length than is usual for a pair",
        [
            PHASE,
            CRITERION,
            JUDGE,
            number("shown first", share, "first_share", "first_low", "first_high"),
            number("length", _bounded, "length_slope", "length_low", "length_high"),
        ],
        document["judges"],
        "audit_judges",
        folded=True,
    )


def _family_table(document: Document) -> Shown:
    return table(
        "Favour of a judge for its own family of models: share of its votes for policies of that family, less that "
        "of judges of neither family over the same questions and personas",
        [
            PHASE,
            CRITERION,
            JUDGE,
            text("Its family", "family"),
            text("Beside", "others", lambda others: ", ".join(others) or "nobody"),
            number("favour, points", _favour, "favour", "low", "high"),
        ],
        [row | {"family": f"{row['family']}: {', '.join(row['policies'])}"} for row in document["families"]],
        "audit_families",
        folded=True,
    )


def _ability_table(document: Document) -> Shown:
    return table(
        "Judge-aware Bradley-Terry: abilities of the policies (log-odds) with each judge weighted by how sharply "
        "it tells them apart (discrimination, 1 on average)",
        [
            PHASE,
            CRITERION,
            text("What", "kind"),
            text("Name", "name"),
            number("ability or discrimination", _bounded, "value", "low", "high"),
        ],
        document["abilities"],
        "audit_judge_aware",
        folded=True,
    )


def share(value: float | None, low: float, high: float) -> str:
    """A share with its interval, in percent."""
    return "" if value is None else f"{formats.percent(value)} ({formats.interval(low, high)})"


def alpha(raters: Document) -> str:
    """Krippendorff's alpha of the raters with its interval."""
    return _bounded(raters["alpha"], raters["alpha_low"], raters["alpha_high"])


def _worth(raters: Document, shown: bool, worth: float) -> str:
    if raters["at_odds"]:
        return "raters at odds"
    return f"{worth:.0f}" if shown else "nothing shown"


def _of(rate: Document) -> str:
    return "" if rate["value"] is None else f"{share(rate['value'], rate['low'], rate['high'])} of {rate['cases']:.0f}"


def _corrected(informative: bool, estimate: float | None, low: float, high: float) -> str:
    return share(estimate, low, high) if informative else "open (0–100)"


def _favour(favour: float | None, low: float, high: float) -> str:
    return "" if favour is None else f"{formats.points(favour)} ({formats.points(low)} to {formats.points(high)})"


def _bounded(value: float | None, low: float | None, high: float | None) -> str:
    return "" if value is None else f"{_decimals(value)} ({_decimals(low)} to {_decimals(high)})"


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
