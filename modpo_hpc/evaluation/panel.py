"""The judges of a panel side by side: how far they agree, and what each of them would have found alone."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations

from modpo_hpc.evaluation import winrates
from modpo_hpc.evaluation.phase import JudgedPhase
from modpo_hpc.evaluation.reliability import reliability
from modpo_hpc.evaluation.tables import Rows


def tables_of_panel(phase: JudgedPhase) -> dict[str, Rows]:
    """The tables of ``tables.PANEL_SCHEMAS``; empty for one judge."""
    return {"judge_agreement": agreement_rows(phase), "judge_rates": rate_rows(phase)} if phase.ballots.judges else {}


def agreement_rows(phase: JudgedPhase) -> Rows:
    """Agreement of each two judges, under each criterion: of single verdicts, and of majorities of the personas."""
    ballots = phase.ballots
    return [
        {"judge": one, "other_judge": other, **asdict(found)}
        for one, other in combinations(ballots.judges, 2)
        for found in reliability(ballots.of_judge(one), ballots.of_judge(other))
    ]


def rate_rows(phase: JudgedPhase) -> Rows:
    """Win rates by the votes of each judge alone."""
    rows = Rows()
    for judge in phase.ballots.judges:
        wins = winrates.count_wins(winrates.majorities(phase.ballots.of_judge(judge).votes))
        rows += [{"judge": judge, **row} for row in phase.cell_rows(**wins.columns(phase.settings.ties))]
    return rows
