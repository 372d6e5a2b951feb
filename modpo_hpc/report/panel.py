"""Tables on a panel of judges."""

from __future__ import annotations

from modpo_hpc.report import formats
from modpo_hpc.report.parts import Shown, number, table, text
from modpo_hpc.report.results import Results

PHASE, CRITERION = text("Phase", "phase"), text("Criterion", "criterion", formats.title)
COMPARISON = (CRITERION, text("A", "policy_a"), text("B", "policy_b"))
CELL = (PHASE, *COMPARISON)
"""The columns that say which comparison a row is about."""
AGREEMENT = (
    number("votes", "{:,}".format, "votes"),
    number("agreement", formats.percent, "agreement"),
    number("kappa", formats.decimals, "kappa"),
    number("AC1", formats.decimals, "ac1"),
    number("majorities agree", formats.percent, "majority_agreement"),
    number("kappa of majorities", formats.decimals, "majority_kappa"),
)
"""How two judgings of the same answers agree."""


def panel_tables(results: Results) -> list[Shown]:
    """How the judges of a panel agree, and what each of them found; nothing for one judge."""
    if "judge_agreement" not in results.tables:
        return []
    return [
        table(
            "Agreement of the judges of the panel",
            [PHASE, CRITERION, text("Judge", "judge"), text("Other judge", "other_judge"), *AGREEMENT],
            results.tables["judge_agreement"],
            "judge_agreement",
        ),
        table(
            "Win rates by each judge of the panel alone",
            [
                *CELL,
                text("Judge", "judge"),
                number("A wins", formats.percent, "win_rate_a"),
                number("B wins", formats.percent, "win_rate_b"),
            ],
            results.tables["judge_rates"],
            "judge_rates",
            folded=True,
        ),
    ]
