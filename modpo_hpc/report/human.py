"""Section on the judgments of people, where there are any."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pandas as pd

from modpo_hpc.human.sentences import of_rule, replacement
from modpo_hpc.report import formats
from modpo_hpc.report.audit_tables import share
from modpo_hpc.report.columns import CRITERION
from modpo_hpc.report.parts import ReportFigure, ReportSection, Shown, number, records, table, text
from modpo_hpc.run import Run

LABELS = {
    "majority": "the majority of the raters who saw a difference",
    "plurality": "the label given most often",
    "absolute": "more than half of the raters",
}


def human_section(run: Run) -> ReportSection | None:
    """What people said, and how far the model's judgments agree; nothing before ``modpo human analyze``."""
    read = read_analysis(run)
    if read is None:
        return None
    from modpo_hpc.report.human_figures import panels

    summary, tables = read
    label, a, b = LABELS[summary["label"]], summary["a"], summary["b"]
    people = "simulated raters" if summary["mark"] == "sandbox: simulated raters" else "raters"
    return ReportSection(
        "human",
        "Judgments by people",
        lead=f"{len(summary['raters'])} {people} judged {summary['questions']} questions, {a} against {b}, blinded.",
        findings=_findings(tables, a, b),
        figures=[
            ReportFigure(
                "clinicians",
                f"Outcomes by {label}; agreement of the model and of each rater left out, with "
                "standard errors over raters and, dashed, the accuracy of always giving the same answer; accuracy by "
                "strength of consensus, with intervals of questions drawn again; confusion.",
                partial(panels, tables, a, b, summary["mark"]),
                wide=True,
            )
        ],
        tables=[_outcomes(tables, a, b, label), *([_model(tables, label)] if "same_truth" in tables else [])],
    )


def read_analysis(run: Run) -> tuple[dict[str, Any], dict[str, pd.DataFrame]] | None:
    """What ``modpo human analyze`` kept, and its tables by the study's rule for labels; None before that."""
    path = run.root / "human" / "analysis" / "summary.json"
    if not path.exists():
        return None
    summary = json.loads(path.read_text(encoding="utf-8"))
    every = {name: _frame(rows) for name, rows in summary["tables"].items()}
    return summary, of_rule(every, summary["label"])


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """``rows`` as a table; a column that JSON has as null throughout (not defined: Fleiss' kappa of a crowd) is NaN."""
    frame = pd.DataFrame(rows)
    return frame.astype({str(name): float for name in frame.columns if frame[name].isna().all()})


def _findings(tables: dict[str, pd.DataFrame], a: str, b: str) -> list[str]:
    at_odds = {row["criterion"] for row in records(tables["raters_agree"]) if row["at_odds"]}
    agreed = [row for row in records(tables["outcomes"]) if row["criterion"] not in at_odds]
    found = []
    ahead = [row for row in agreed if row["A_low"] > row["B_high"]]
    behind = [formats.title(row["criterion"]) for row in agreed if row["B_low"] > row["A_high"]]
    if ahead:
        best = max(ahead, key=lambda row: row["A_share"] - row["B_share"])
        found.append(
            f"{a} is preferred most clearly for {formats.title(best['criterion'])}: on "
            f"{formats.percent(best['A_share'])} of the questions, against {formats.percent(best['B_share'])} for {b}."
        )
    elif agreed:
        found.append(f"{a} is not shown to be preferred to {b} for any criterion.")
    if behind:
        found.append(f"{b} is preferred to {a} for {', '.join(behind)}.")
    if at_odds:
        listed = ", ".join(formats.title(one) for one in sorted(at_odds))
        found.append(
            f"The raters agree with each other no better than chance on {listed}: what they prefer there, and how near "
            "the model comes to it, cannot be said."
        )
    for row in records(tables["same_truth"]) if "same_truth" in tables else []:
        if row["raters"] and row["criterion"] not in at_odds:
            found.append(
                f"{formats.title(row['criterion']).capitalize()}: against what the other raters said, the model is "
                f"right on {formats.percent(row['model'])} of the questions, a rater on "
                f"{formats.percent(row['rater'])}."
            )
    for row in records(tables["alternative"]) if "alternative" in tables else []:
        if row["criterion"] not in at_odds:
            found.append(f"{formats.title(row['criterion']).capitalize()}: {replacement(row)}.")
    return found


def _outcomes(tables: dict[str, pd.DataFrame], a: str, b: str, label: str) -> Shown:
    agree = tables["raters_agree"][["criterion", "fleiss_kappa", "gwet_ac1"]]
    return table(
        f"Outcomes by {label}",
        [
            CRITERION,
            number("questions", str, "n"),
            number(a, share, "A_share", "A_low", "A_high"),
            number("ties", formats.percent, "tie_share"),
            number(b, share, "B_share", "B_low", "B_high"),
            number("Fleiss' kappa", formats.decimals, "fleiss_kappa"),
            number("AC1", formats.decimals, "gwet_ac1"),
        ],
        records(tables["outcomes"].merge(agree, on="criterion", how="left")),
        "human_outcomes",
    )


def _model(tables: dict[str, pd.DataFrame], label: str) -> Shown:
    measures = {
        "accuracy": "accuracy",
        "same answer always": "constant",
        "balanced accuracy": "balanced",
        "Cohen's kappa": "kappa",
        "AC1": "ac1",
    }
    return table(
        f"The model, and the raters (mean of each against the others), against {label}; ties left out",
        [
            CRITERION,
            text("Who", "who", lambda who: who.partition(",")[0]),
            number("questions", "{:.0f}".format, "n"),
            *(number(heading, formats.decimals, field) for heading, field in measures.items()),
        ],
        records(tables["model_agrees"]),
        "human_agreement",
    )
