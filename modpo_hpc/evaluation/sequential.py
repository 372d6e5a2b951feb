"""Tables of a phase that was judged sequentially: what holds whenever judging stopped, and nothing else.

What is estimated is the mean share of votes, a tie half of one, over questions like those of the study and over its
personas. Questions that were not judged are not there: they are no ties. Intervals hold at all times and for all pairs
of a criterion at once, so that averages of them do, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.evaluation import winrates
from modpo_hpc.evaluation.analysis import sizes_of
from modpo_hpc.evaluation.ballots import Ballots
from modpo_hpc.evaluation.completeness import completeness
from modpo_hpc.evaluation.tables import Rows
from modpo_hpc.judging.assignments import question_order
from modpo_hpc.judging.betting import bounds, decide, weighted_shares
from modpo_hpc.judging.sequential_stop import PersonaGroups, stopping_rule
from modpo_hpc.study import Study

Array = NDArray[np.float64]


def tables_of(ballots: Ballots, groups: Sequence[Sequence[str]], study: Study) -> dict[str, Rows]:
    """The tables of ``tables.SEQUENTIAL_SCHEMAS``; ``groups`` are those among whom personas were drawn."""
    shares = share_rows(ballots, groups, study)
    return {
        "completeness": [cell.row() for cell in completeness(ballots)],
        "shares": shares,
        "share_ranking": ranking_rows(ballots, shares),
    }


def share_rows(ballots: Ballots, groups: Sequence[Sequence[str]], study: Study) -> Rows:
    """Each pair: its mean share of votes with the interval, what was decided, and the majorities of the questions."""
    rule, drawn = stopping_rule(study, ballots.phase), PersonaGroups.of(groups)
    group = np.array([drawn.group[persona] for persona in ballots.personas])
    place = {question: number for number, question in enumerate(ballots.questions)}
    order = [place[question] for question in question_order(ballots.questions, study.seed)]
    rows = Rows()
    for c, criterion in enumerate(ballots.criteria):
        for p, (a, b) in enumerate(ballots.pairs):
            votes, cast = ballots.votes[c, p][order], ballots.cast[c, p][order]
            shares = weighted_shares(votes, cast, group, drawn.weight)
            heard = ~np.isnan(shares)
            low, high = bounds(shares[heard], rule.level)
            decision = decide(shares[heard], rule)
            wins = winrates.count_wins(winrates.majorities(votes[heard]))
            rate_a, rate_b = wins.rates(study.statistics.ties) if wins.questions else (np.nan, np.nan)
            rows.append(
                {
                    "phase": ballots.phase,
                    "criterion": criterion,
                    "policy_a": a,
                    "policy_b": b,
                    "questions": wins.questions,
                    "votes": int(cast.sum()),
                    "share": float(shares[heard].mean()) if heard.any() else np.nan,
                    "low": low,
                    "high": high,
                    "decision": {"A": "better", "B": "better"}.get(decision.outcome, decision.outcome),
                    "better": {"A": a, "B": b}.get(decision.outcome, ""),
                    "decided_after": decision.questions if decision.outcome != "open" else 0,
                    "wins_a": int(wins.a),
                    "wins_b": int(wins.b),
                    "ties": int(wins.ties),
                    "majority_a": float(rate_a),
                    "majority_b": float(rate_b),
                }
            )
    return rows


def ranking_rows(ballots: Ballots, shares: Rows) -> Rows:
    """Mean share of each policy over its opponents, with an interval and ranks that hold for all policies at once."""
    rows = Rows()
    for criterion in ballots.criteria:
        means = {policy: _mean_share(shares, criterion, policy) for policy in ballots.policies}
        for policy, (share, low, high) in sorted(means.items(), key=lambda one: (-one[1][0], one[0])):
            rows.append(
                {
                    "phase": ballots.phase,
                    "criterion": criterion,
                    "policy": policy,
                    "rank": 1 + sum(other[0] > share for other in means.values()),
                    "rank_low": 1 + sum(other[1] > high for other in means.values()),
                    "rank_high": len(means) - sum(other[2] < low for other in means.values()),
                    "share": share,
                    "low": low,
                    "high": high,
                }
            )
    return rows


def phase_summary(ballots: Ballots, study: Study) -> dict[str, Any]:
    """Sizes of a phase, and what decided its pairs."""
    rule = stopping_rule(study, ballots.phase)
    return {
        **sizes_of(ballots),
        "level": rule.level,
        "margin": rule.margin,
        "personas_per_question": study.judging.personas_per_question,
    }


def _mean_share(shares: Rows, criterion: str, policy: str) -> tuple[float, float, float]:
    mine = [row for row in shares if row["criterion"] == criterion and policy in (row["policy_a"], row["policy_b"])]
    turned = [row["policy_b"] == policy for row in mine]
    share, low, high = (
        float(np.mean([1 - row[back] if turn else row[name] for row, turn in zip(mine, turned, strict=True)]))
        for name, back in (("share", "share"), ("low", "high"), ("high", "low"))
    )
    return round(share, 12), low, high
