"""Columns that many tables have."""

from __future__ import annotations

from modpo_hpc.report import formats
from modpo_hpc.report.parts import number, text

PHASE, CRITERION = text("Phase", "phase"), text("Criterion", "criterion", formats.title)
POLICY, JUDGE = text("Policy", "policy"), text("Judge", "judge")
INTERVAL = number("interval", formats.interval, "low", "high")
PAIR = (text("A", "policy_a"), text("B", "policy_b"))
COMPARISON = (CRITERION, *PAIR)
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
