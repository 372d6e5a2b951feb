"""Tables on a panel of judges."""

from __future__ import annotations

from typing import Any

from modpo_hpc.report import formats
from modpo_hpc.report.parts import Shown, numbers, text
from modpo_hpc.report.results import Results

CELL = (text("Phase"), text("Criterion"), text("A"), text("B"))
"""The columns that say which comparison a row is about."""
AGREEMENT = ("votes", "agreement", "kappa", "AC1", "majorities agree", "kappa of majorities")


def agreement_cells(row: dict[str, Any]) -> list[str]:
    """How two judgings of the same answers agree, under the headings of ``AGREEMENT``."""
    return [
        f"{row['votes']:,}",
        formats.percent(row["agreement"]),
        *(formats.decimals(row[one]) for one in ("kappa", "ac1")),
        formats.percent(row["majority_agreement"]),
        formats.decimals(row["majority_kappa"]),
    ]


def panel_tables(results: Results) -> list[Shown]:
    """How the judges of a panel agree, and what each of them found; nothing for one judge."""
    if "judge_agreement" not in results.tables:
        return []
    agreement = [
        [
            row["phase"],
            formats.title(row["criterion"]),
            row["judge"],
            row["other_judge"],
            *agreement_cells(row),
        ]
        for row in results.tables["judge_agreement"]
    ]
    rates = [
        [
            row["phase"],
            formats.title(row["criterion"]),
            row["policy_a"],
            row["policy_b"],
            row["judge"],
            formats.percent(row["win_rate_a"]),
            formats.percent(row["win_rate_b"]),
        ]
        for row in results.tables["judge_rates"]
    ]
    pair = [text("Phase"), text("Criterion"), text("Judge"), text("Other judge")]
    return [
        Shown("Agreement of the judges of the panel", [*pair, *numbers(*AGREEMENT)], agreement, "judge_agreement"),
        Shown(
            "Win rates by each judge of the panel alone",
            [*CELL, text("Judge"), *numbers("A wins", "B wins")],
            rates,
            "judge_rates",
            folded=True,
        ),
    ]
