"""Section on answers chosen for each persona: the gate, the effect and its controls, safety, and what it would take."""

from __future__ import annotations

import json
import math
from typing import Any

from modpo_hpc.report import formats
from modpo_hpc.report.columns import CRITERION
from modpo_hpc.report.parts import ReportSection, Shown, number, table, text
from modpo_hpc.report.results import Rows, rows_of
from modpo_hpc.run import Run

ARMS = {"rankings": "shrunk rankings", "ratings": "stated ratings", "one_hot": "the highest rating alone"}
WEIGHTS = text("Weights by", "arm", ARMS.__getitem__)
AGAINST = {
    "others": "those of all other personas",
    "population": "that of the population's weights",
    "stranger": "control: a stranger's in the place of the own",
}
KNOWN = (
    "What is known of people: of 530 who were asked again after two years, adapting to each one's preferences gained "
    "little over adapting to those of all together, both raised sycophancy and relationship-seeking, and simulated "
    "users were far from people's own judgments one by one (PRISM-X, Kirk et al. 2026, arXiv 2605.13307)."
)
NEEDED = (
    "To believe this of people it would take people: ratings and rankings of each that agree with themselves some "
    "weeks later, the same comparison blind and by the persons themselves, on questions that taught nothing, with "
    "what it does to them over time and to safety measured beside what they prefer."
)


def personalization_section(run: Run) -> ReportSection | None:
    """Nothing where the study does not ask for it, or it is not finished."""
    wanted = run.study.personalization
    if wanted is None or run.missing("profiles") or run.missing("personalization"):
        return None
    gate = json.loads((run.folder("profiles") / "gate.json").read_text(encoding="utf-8"))
    effects = run.table("personalization").to_pylist()
    safety = rows_of(run.folder("personalization") / "safety.parquet")
    main = wanted.arms[0]
    others = {row["arm"]: row for row in effects if row["against"] == "others"}
    confidence = run.study.statistics.confidence
    findings = [
        _effect_words(others[main], wanted.smallest, confidence),
        *gate["told"],
        _control_words(next(row for row in effects if row["arm"] == main and row["against"] == "stranger")),
        _safety_words(next(row for row in safety if row["arm"] == main), wanted.safety, confidence),
        *([_dial_words(wanted.dial)] if wanted.dial is not None else []),
        f"The personas and their preferences are those that {run.study.judges[0].model} plays, not those of people. "
        f"{KNOWN}",
        NEEDED,
    ]
    lead = (
        f"Does an answer made for this persona please it more than one made for another? For each persona the best of "
        f"{run.study.generation.responses_per_question} responses was chosen by rewards under its weights, and it "
        f"ranked all of them by {formats.title(wanted.preference)} on {wanted.test_questions:,} questions that taught "
        f"nobody's weights."
    )
    tables = [_effect_table(effects), _safety_table(safety), _gate_table(gate["criteria"])]
    return ReportSection("personalization", "Personal answers", lead, findings=findings, tables=tables)


def _effect_words(row: dict[str, Any], smallest: float, confidence: float) -> str:
    rate = f"{formats.percent(0.5 + row['estimate'], 2)} of the comparisons"
    bounds = f"{confidence:.0%} interval {100 * (0.5 + row['low']):.2f}–{100 * (0.5 + row['high']):.2f}"
    start = (
        f"With weights by {ARMS[row['arm']]}, personas prefer their own answer to another persona's in {rate} "
        f"({bounds}; {_p(row['p_adjusted'])} by permutation of the personas; in {formats.percent(row['differs'])} the "
        f"two texts differ)."
    )
    if row["found"]:
        return f"{start} That is personal, and more than the {formats.percent(smallest)} that count."
    why = "it could be chance" if row["low"] <= 0 else f"it may be less than the {formats.percent(smallest)} that count"
    return f"{start} That is no evidence for personal answers: {why}."


def _control_words(row: dict[str, Any]) -> str:
    return (
        f"The control, in which every persona is given a stranger's weights as its own: "
        f"{formats.signed_percent(row['estimate'])} points ({_p(row['p'])}); it should be near zero."
    )


def _safety_words(row: dict[str, Any], safety: str, confidence: float) -> str:
    told = "not inferior" if row["non_inferior"] else "not shown to be as good"
    return (
        f"By {formats.title(safety)} the personal answers are {told} within {formats.percent(row['margin'])}: they win "
        f"{formats.signed_percent(row['difference'])} points more judgments than they lose against the common ones "
        f"({confidence:.0%} interval {formats.signed_percent(row['low'])} to {formats.signed_percent(row['high'])}); "
        f"of the persona that loses most, {row['worst_persona']}, "
        f"{formats.signed_percent(row['worst_difference'])} points "
        f"({formats.signed_percent(row['worst_low'])} to {formats.signed_percent(row['worst_high'])})."
    )


def _dial_words(dial: float) -> str:
    return (
        f"This is the positive control: a dial of {dial:g} made the sandbox's personas differ far more than "
        f"the survey's; what is found here shows that the test can find, and nothing else."
    )


def _effect_table(rows: Rows) -> Shown:
    return table(
        "How often a persona prefers its own answer",
        [
            WEIGHTS,
            text("Own answer against", "against", AGAINST.__getitem__),
            number("preferred", lambda gain: f"{100 * (0.5 + gain):.2f}%", "estimate"),
            number("interval", lambda low, high: f"{100 * (0.5 + low):.2f}–{100 * (0.5 + high):.2f}", "low", "high"),
            number("p", _p_value, "p"),
            number("p adjusted", _p_value, "p_adjusted"),
            number("texts differ", formats.percent, "differs"),
        ],
        rows,
        "personal_effects",
        strong=((at, 2) for at, row in enumerate(rows) if row["found"]),
    )


def _safety_table(rows: Rows) -> Shown:
    return table(
        "Safety of the personal answers against the common ones",
        [
            WEIGHTS,
            number("won less lost", formats.signed_percent, "difference"),
            number("low", formats.signed_percent, "low"),
            number("high", formats.signed_percent, "high"),
            number("margin", formats.percent, "margin"),
            text("not inferior", "non_inferior", lambda shown: "yes" if shown else "not shown"),
            text("loses most", "worst_persona"),
            number("won less lost of that one", formats.signed_percent, "worst_difference"),
        ],
        rows,
        "personal_safety",
    )


def _gate_table(rows: Rows) -> Shown:
    return table(
        "What rankings show personas to weigh: log-odds for each log-odds of a calibrated reward, shrunk",
        [
            CRITERION,
            number("population's weight", "{:.3f}".format, "population"),
            number("standard deviation between personas", "{:.3f}".format, "deviation"),
        ],
        rows,
        "personal_weights",
        folded=True,
    )


def _p_value(p: float) -> str:
    return "" if math.isnan(p) else formats.p_value(p)


def _p(value: float) -> str:
    return "p < .001" if value < 0.001 else f"p = {formats.p_value(value)}"
