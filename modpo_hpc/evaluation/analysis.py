"""From the ballots of a phase to its tables: each function makes the rows of one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from modpo_hpc.evaluation import mcnemar, pareto, robustness, winrates
from modpo_hpc.evaluation.ballots import Ballots
from modpo_hpc.evaluation.completeness import STATES, completeness
from modpo_hpc.evaluation.phase import JudgedPhase
from modpo_hpc.evaluation.tables import Rows
from modpo_hpc.study import Study


def tables_of(phase: JudgedPhase) -> dict[str, Rows]:
    """All tables of one phase."""
    of_personas, of_groups = robustness.persona_and_group_rows(phase)
    return {
        "completeness": [cell.row() for cell in completeness(phase.ballots)],
        "win_rates": win_rate_rows(phase),
        "mcnemar": mcnemar_rows(phase),
        "ranking": ranking_rows(phase),
        "pareto": pareto_rows(phase),
        "bradley_terry": robustness.ability_rows(phase),
        "persona_agreement": robustness.agreement_rows(phase),
        "position_bias": robustness.position_rows(phase),
        "length_control": robustness.length_rows(phase),
        "persona_rates": of_personas,
        "groups": of_groups,
    }


def summary_of(study: Study, mark: str | None, judges: Sequence[str], mixed: Sequence[str] = ()) -> dict[str, Any]:
    """The head of ``statistics.json``: which study, which ``judges`` were asked, how numbers were made, the mark.

    ``mixed`` says whose verdicts are counted, where they are of different judges.
    """
    return {
        "study": study.name,
        "seed": study.seed,
        "sandbox": mark,
        "judge": ", ".join(judges),
        **({"mixed_judges": list(mixed)} if mixed else {}),
        "placebos": placebos_of(study),
        "settings": study.statistics.model_dump(mode="json", exclude={"mixed_judges"}),
        "phases": {},
    }


def placebos_of(study: Study) -> dict[str, list[str]]:
    """Policy -> the policies that differ from it in the margins alone, which in theirs say nothing."""
    policies = study.alignment.policies
    found = {
        name: [other for other, placebo in policies.items() if placebo.is_placebo_of(policy)]
        for name, policy in policies.items()
    }
    return {name: others for name, others in found.items() if others}


def sizes_of(ballots: Ballots) -> dict[str, Any]:
    """Sizes of a phase."""
    cells = completeness(ballots)
    return {
        "policies": list(ballots.policies),
        "criteria": list(ballots.criteria),
        **({"anchors": list(ballots.anchors)} if ballots.anchors else {}),
        "pairs": len(ballots.pairs),
        "questions": len(ballots.questions),
        "personas": len(ballots.personas),
        **{state: sum(getattr(cell, state) for cell in cells) for state in STATES},
    }


def phase_summary(phase: JudgedPhase) -> dict[str, Any]:
    """Sizes of a phase, and the share of the space of its criteria that its policies reach."""
    reach = pareto.hypervolume(phase.average().T, np.zeros(len(phase.ballots.criteria)))
    return {**sizes_of(phase.ballots), "hypervolume": reach}


def win_rate_rows(phase: JudgedPhase) -> Rows:
    """Both win rates of every pair and their difference.

    ``separated`` pairs differ by an interval that holds for all pairs of a criterion at once.
    """
    rate_a, rate_b = phase.wins.rates(phase.settings.ties)
    error_a, error_b = phase.rate_errors()
    a, b = phase.intervals(rate_a, error_a), phase.intervals(rate_b, error_b)
    apart = phase.intervals(rate_a - rate_b, error_a - error_b, difference=True)
    return phase.cell_rows(
        questions=phase.wins.questions,
        **phase.wins.columns(phase.settings.ties),
        a_low=a.low,
        a_high=a.high,
        b_low=b.low,
        b_high=b.high,
        difference=rate_a - rate_b,
        difference_low=apart.low,
        difference_high=apart.high,
        difference_all_low=apart.all_low,
        difference_all_high=apart.all_high,
        separated=(apart.all_low > 0) | (apart.all_high < 0),
    )


def mcnemar_rows(phase: JudgedPhase) -> Rows:
    """All pairs; the corrections are over the pairs of the phase under one criterion."""
    settings, rows = phase.settings, Rows()
    for c, p, key in phase.ballots.cells():
        won, lost, ties = (int(count[c, p]) for count in (phase.wins.a, phase.wins.b, phase.wins.ties))
        tests = {method: mcnemar.mcnemar(won, lost, method) for method in mcnemar.METHODS}
        test = tests[settings.mcnemar]
        odds, low, high = mcnemar.odds_ratio(won, lost, settings.confidence)
        rows.append(
            {
                **key,
                "b": won,
                "c": lost,
                "ties": ties,
                "statistic": test.statistic,
                "p": test.pvalue,
                **{f"p_{method}": one.pvalue for method, one in tests.items()},
                "odds_ratio": odds,
                "odds_low": low,
                "odds_high": high,
                "detectable": mcnemar.smallest_detectable_difference(
                    phase.wins.questions, ties, settings.alpha, settings.power
                ),
                "favours": key["policy_a"] if won > lost else key["policy_b"] if lost > won else "",
                "reason": test.reason or "",
            }
        )
    for _, family in groupby(rows, key=itemgetter("criterion")):
        members = list(family)
        raw = [row["p"] for row in members]
        corrected = {name: mcnemar.adjusted(raw, name) for name in mcnemar.CORRECTIONS}
        for number, row in enumerate(members):
            row["p_holm"], row["p_bh"] = corrected["holm"][number], corrected["bh"][number]
            row["significant"] = corrected[settings.correction][number] < settings.alpha
    return rows


def ranking_rows(phase: JudgedPhase) -> Rows:
    """Average win rate over the opponents, rank, and how sure the rank is.

    ``rank_low`` counts the policies whose average is higher for sure, ``rank_high`` those whose average is not lower
    for sure, by simultaneous intervals of all differences (Mogstad et al. 2024). ``best_probability`` is the share of
    drawn errors with which a policy comes out first.
    """
    policies, average, errors = phase.ballots.policies, phase.average(), phase.average_errors()
    own = phase.intervals(average, errors)
    rank = winrates.ranks(average)
    first, second = np.triu_indices(len(policies), 1)
    apart = phase.intervals(
        average[:, first] - average[:, second], errors[..., first] - errors[..., second], difference=True
    )
    higher = np.zeros((*average.shape, len(policies)), dtype=bool)
    higher[:, first, second], higher[:, second, first] = apart.all_low > 0, apart.all_high < 0
    best = (winrates.ranks(average + errors) == 1).mean(axis=0)
    return [
        {
            "phase": phase.ballots.phase,
            "criterion": criterion,
            "policy": policy,
            "rank": rank[c, k],
            "win_rate": average[c, k],
            "low": own.low[c, k],
            "high": own.high[c, k],
            "rank_low": 1 + higher[c, :, k].sum(),
            "rank_high": len(policies) - higher[c, k].sum(),
            "best_probability": best[c, k],
        }
        for c, criterion in enumerate(phase.ballots.criteria)
        for k, policy in sorted(enumerate(policies), key=lambda one: (-average[c, one[0]], one[1]))
    ]


def pareto_rows(phase: JudgedPhase) -> Rows:
    """Which policies no other beats in every criterion at once, by average win rate, and how sure that is."""
    policies = phase.ballots.policies
    average = phase.average()
    drawn = average + phase.average_errors()
    no_worse = (drawn[..., :, None] >= drawn[..., None, :]).all(axis=1)
    better = (drawn[..., :, None] > drawn[..., None, :]).any(axis=1)
    on_front = 1 - np.asarray(no_worse & better).any(axis=1).mean(axis=0)
    beaten_by = [[policies[other] for other in pareto.dominators(average.T, k)] for k in range(len(policies))]
    return [
        {
            "phase": phase.ballots.phase,
            "policy": policy,
            "mean_win_rate": average[:, k].mean(),
            "on_front": not beaten_by[k],
            "front_probability": on_front[k],
            "dominated_by": ", ".join(beaten_by[k]),
        }
        for k, policy in enumerate(policies)
    ]
