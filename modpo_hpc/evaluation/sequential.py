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
    rule, votes, cast = stopping_rule(study, ballots.phase, len(ballots.questions)), ballots.votes, ballots.cast
    in_order, rows = _shares_in_order(ballots, cast, groups, study.seed), Rows()
    for c, p, key in ballots.cells():
        shares = _heard(in_order[c, p])
        low, high = bounds(shares, rule)
        decision = decide(shares, rule)
        wins = winrates.count_wins(winrates.majorities(votes[c, p][cast[c, p].any(axis=1)]))
        rate_a, rate_b = wins.rates(study.statistics.ties) if wins.questions else (np.nan, np.nan)
        better = {"A": key["policy_a"], "B": key["policy_b"]}.get(decision.outcome, "")
        rows.append(
            {
                **key,
                "questions": wins.questions,
                "votes": cast[c, p].sum(),
                "share": shares.mean() if len(shares) else np.nan,
                "low": low,
                "high": high,
                "decision": "better" if better else decision.outcome,
                "better": better,
                "decided_after": decision.questions if decision.outcome != "open" else 0,
                "wins_a": wins.a,
                "wins_b": wins.b,
                "ties": wins.ties,
                "majority_a": rate_a,
                "majority_b": rate_b,
            }
        )
    return rows


def _shares_in_order(ballots: Ballots, cast: NDArray[np.bool_], groups: Sequence[Sequence[str]], seed: int) -> Array:
    """``weighted_shares`` of the votes that were ``cast``: criteria x pairs x questions, in the order of judging."""
    drawn = PersonaGroups.of(groups)
    group = np.array([drawn.group[persona] for persona in ballots.personas])
    order = [ballots.questions.index(question) for question in question_order(ballots.questions, seed)]
    shares = [
        [weighted_shares(said, heard, group, drawn.weight) for said, heard in zip(*of_criterion, strict=True)]
        for of_criterion in zip(ballots.votes, cast, strict=True)
    ]
    return np.array(shares)[..., order]


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
    drawn = [drawn_personas(question, groups, personas, seed) for question in ballots.questions]
    panel = np.array([[persona in chosen for persona in ballots.personas] for chosen in drawn])
    shares = _shares_in_order(ballots, ballots.cast & panel, groups, seed)
    asked = [_questions_asked(shares[:, p], rule, questions_per_round) for p in range(len(ballots.pairs))]
    decisions = tuple(
        tuple(decide(_heard(one[:count]), rule) for one, count in zip(of_criterion, asked, strict=True))
        for of_criterion in shares
    )
    return Replay(decisions, np.array(asked))


def _questions_asked(shares: Array, rule: StoppingRule, questions_per_round: int) -> int:
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
    rows, counted = Rows(), ballots.anchors or ballots.policies
    for criterion in ballots.criteria:
        ends = {policy: [(0.5, 0.5, 0.5)] if policy in ballots.anchors else [] for policy in ballots.policies}
        for row in shares:
            if row["criterion"] == criterion and row["policy_b"] in counted:
                ends[row["policy_a"]].append((row["share"], row["low"], row["high"]))
            if row["criterion"] == criterion and row["policy_a"] in counted:
                ends[row["policy_b"]].append((1 - row["share"], 1 - row["high"], 1 - row["low"]))
        means = {policy: np.mean(found, axis=0).tolist() for policy, found in ends.items()}
        means = {policy: (round(share, 12), low, high) for policy, (share, low, high) in means.items()}
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
