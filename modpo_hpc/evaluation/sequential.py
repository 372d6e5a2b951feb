"""Tables of a phase that was judged sequentially: what holds whenever judging stopped, and nothing else.

What is estimated is the mean share of votes, a tie half of one, over questions like those of the study and over its
personas. Questions that were not judged are not there: they are no ties. Intervals hold at all times and for all pairs
of a criterion at once, so that averages of them do, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.data.questions import study_questions
from modpo_hpc.errors import InputError
from modpo_hpc.evaluation import winrates
from modpo_hpc.evaluation.analysis import sizes_of
from modpo_hpc.evaluation.ballots import Ballots, collect_phases
from modpo_hpc.evaluation.betting import Decision, StoppingRule, bounds, decide, settled, weighted_shares
from modpo_hpc.evaluation.completeness import completeness
from modpo_hpc.evaluation.sequential_design import (
    PersonaGroups,
    drawn_personas,
    groups_of_personas,
    question_order,
    stopping_rule,
)
from modpo_hpc.evaluation.tables import Rows
from modpo_hpc.run import Run
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
    rule, drawn = stopping_rule(study, ballots.phase, len(ballots.questions)), PersonaGroups.of(groups)
    group = np.array([drawn.group[persona] for persona in ballots.personas])
    place = {question: number for number, question in enumerate(ballots.questions)}
    order = [place[question] for question in question_order(ballots.questions, study.seed)]
    rows = Rows()
    for c, criterion in enumerate(ballots.criteria):
        for p, (a, b) in enumerate(ballots.pairs):
            votes, cast = ballots.votes[c, p][order], ballots.cast[c, p][order]
            shares = weighted_shares(votes, cast, group, drawn.weight)
            heard = ~np.isnan(shares)
            low, high = bounds(shares[heard], rule)
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


@dataclass(frozen=True)
class Replay:
    """What sequential judging of fully judged pairs would have been.

    ``decisions`` are criterion by criterion those of each pair; ``questions`` (pairs) is how many were asked.
    """

    decisions: tuple[tuple[Decision, ...], ...]
    questions: NDArray[np.int64]


def replay(
    ballots: Ballots,
    groups: Sequence[Sequence[str]],
    rule: StoppingRule,
    personas: int,
    questions_per_round: int,
    seed: int,
) -> Replay:
    """Judge ``ballots`` again by ``personas`` drawn for each question, all criteria in one call, by the votes cast."""
    drawn = PersonaGroups.of(groups)
    group = np.array([drawn.group[persona] for persona in ballots.personas])
    place = {question: number for number, question in enumerate(ballots.questions)}
    order = [place[question] for question in question_order(ballots.questions, seed)]
    panel = np.zeros((len(ballots.questions), len(ballots.personas)), dtype=bool)
    for number, question in enumerate(ballots.questions):
        chosen = drawn_personas(question, groups, personas, seed)
        panel[number] = [persona in chosen for persona in ballots.personas]
    votes, cast = ballots.votes, ballots.cast & panel
    decisions: list[list[Decision]] = [[] for _ in ballots.criteria]
    asked = []
    for p in range(len(ballots.pairs)):
        shares = [
            weighted_shares(votes[c, p][order], cast[c, p][order], group, drawn.weight)
            for c in range(len(ballots.criteria))
        ]
        asked.append(_questions_asked(shares, rule, questions_per_round))
        for c, of_criterion in enumerate(shares):
            decisions[c].append(decide(_heard(of_criterion[: asked[-1]]), rule))
    return Replay(tuple(map(tuple, decisions)), np.array(asked))


def _questions_asked(shares: Sequence[Array], rule: StoppingRule, questions_per_round: int) -> int:
    """After how many questions the last of the criteria is settled, in whole rounds; ``shares`` of each."""
    most = len(shares[0])
    spared = np.ones(most, dtype=bool)
    for of_criterion in shares:
        after = np.append(False, settled(_heard(of_criterion)[None], rule)[0])
        spared &= after[np.cumsum(~np.isnan(of_criterion))]
    ends = np.arange(questions_per_round, most, questions_per_round)
    stops = ends[spared[ends - 1]]
    return int(stops[0]) if len(stops) else most


def _heard(shares: Array) -> Array:
    return shares[~np.isnan(shares)]


def plan_sentences(study: Study, questions: int, pilot: Run | None, orders: int = 5) -> list[str]:
    """How many of the planned calls on verdicts sequential judging of ``study`` will make; empty if it is not."""
    if study.judging.stop != "sequential":
        return []
    judging = study.judging
    size, personas = judging.sequential.questions_per_round, judging.personas_per_question
    least = most = likely = 0.0
    found = _pilot_ballots(pilot, personas) if pilot else {}
    for name, phase in study.judging.phases.items():
        calls = len(phase.pairs) * personas * len(phase.criteria_of_calls)
        least, most = least + calls * min(size, questions), most + calls * questions
        ballots = found.get(name, next(iter(found.values()), None))
        if pilot and ballots:
            rule, asked = stopping_rule(study, name, questions), []
            for seed in range(orders):
                again = replay(ballots, groups_of_personas(pilot), rule, personas, size, seed)
                unsettled = again.questions == len(ballots.questions)  # what is left then takes all there are
                asked.append(np.where(unsettled, questions, np.minimum(again.questions, questions)).mean())
            likely += calls * float(np.mean(asked))
    told = f"verdicts stop where pairs are decided: {least:,.0f} to {most:,.0f} calls"
    if not pilot:
        return [f"{told}; finished verdicts of a pilot tell more (--pilot RUN)"]
    return [f"{told}, {likely:,.0f} ({likely / most:.0%}) if pairs differ as in {pilot.root}, by {orders} orders of it"]


def _pilot_ballots(pilot: Run, personas: int) -> dict[str, Ballots]:
    if pilot.study.judging.stop != "none":
        raise InputError(
            "a pilot needs verdicts that were not stopped",
            file=pilot.root,
            field="judging.stop",
            value=pilot.study.judging.stop,
            remedy="Name a run with judging.stop: none.",
        )
    if pilot.study.judging.personas_per_question < personas:
        raise InputError(
            "the pilot has fewer personas a question than the study draws",
            file=pilot.root,
            field="judging.personas_per_question",
            value=pilot.study.judging.personas_per_question,
            remedy=f"Draw that many or fewer in the study (it draws {personas}), or name another pilot.",
        )
    names = [question.question_id for question in study_questions(pilot, "test")]
    everyone = [persona for members in groups_of_personas(pilot) for persona in members]
    return {one.phase: one for one in collect_phases(pilot, names, everyone)}


def ranking_rows(ballots: Ballots, shares: Rows) -> Rows:
    """Mean share of each policy over its opponents, with an interval and ranks that hold for all policies at once.

    Where the phase has anchors these are the opponents, and an anchor has half of the votes against itself.
    """
    rows = Rows()
    for criterion in ballots.criteria:
        means = {policy: _mean_share(shares, criterion, policy, ballots.anchors) for policy in ballots.policies}
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
    rule = stopping_rule(study, ballots.phase, len(ballots.questions))
    return {
        **sizes_of(ballots),
        "level": rule.level,
        "margin": rule.margin,
        "futility": rule.futility,
        "personas_per_question": study.judging.personas_per_question,
    }


def _mean_share(shares: Rows, criterion: str, policy: str, anchors: Sequence[str]) -> tuple[float, float, float]:
    ends = [(0.5, 0.5, 0.5)] if policy in anchors else []
    for row in shares:
        mine, other = row["policy_a"] == policy, row["policy_b"] if row["policy_a"] == policy else row["policy_a"]
        if row["criterion"] != criterion or policy not in (row["policy_a"], row["policy_b"]):
            continue
        if not anchors or other in anchors:
            straight = row["share"], row["low"], row["high"]
            ends.append(straight if mine else (1 - row["share"], 1 - row["high"], 1 - row["low"]))
    share, low, high = np.mean(ends, axis=0).tolist()
    return round(share, 12), low, high
