"""The tables that reviewers ask for: is it the order, the length, the persona, the group?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from modpo_hpc.evaluation import bradley_terry, groups, mcnemar, winrates
from modpo_hpc.evaluation.crossed import components_of_panel
from modpo_hpc.evaluation.length_control import length_controlled
from modpo_hpc.evaluation.phase import JudgedPhase
from modpo_hpc.evaluation.position import position_bias
from modpo_hpc.evaluation.tables import Rows
from modpo_hpc.seeds import rng_of


def ability_rows(phase: JudgedPhase) -> Rows:
    """Bradley-Terry abilities from the votes of the personas, best first."""
    ballots, rows = phase.ballots, Rows()
    clusters = min(len(ballots.questions), len(ballots.personas))
    reach = float(stats.t.ppf((1 + phase.settings.confidence) / 2, max(1, clusters - 1)))
    for c, criterion in enumerate(ballots.criteria):
        fitted = bradley_terry.fit(phase.votes[c], phase.cast[c], len(ballots.policies), pairs=ballots.places)
        for k in np.argsort(-fitted.ability, kind="stable"):
            ability, error = fitted.ability[k], fitted.error[k]
            rows.append(
                {
                    "phase": ballots.phase,
                    "criterion": criterion,
                    "policy": ballots.policies[k],
                    "ability": ability,
                    "error": error,
                    "low": ability - reach * error,
                    "high": ability + reach * error,
                    "ties": fitted.ties,
                }
            )
    return rows


def agreement_rows(phase: JudgedPhase) -> Rows:
    """How far the votes of the personas on a question go together, and how many votes that leaves."""
    rows, (votes, cast) = Rows(), phase.ballots.by_judge()
    for c, p, key in phase.ballots.cells():
        found = components_of_panel(votes[c, p], cast[c, p])
        rows.append(
            {
                **key,
                "votes": found.votes,
                "mean": found.mean,
                "question_variance": found.question,
                "persona_variance": found.persona,
                "residual_variance": found.residual,
                "icc": found.icc,
                "effective_votes": found.effective,
            }
        )
    return rows


def position_rows(phase: JudgedPhase) -> Rows:
    """Position bias of each cell, and McNemar's test once more with both orders weighing the same."""
    settings, rows = phase.settings, Rows()
    for c, p, key in phase.ballots.cells():
        rng = rng_of(phase.seed, "position", *key.values())
        found = position_bias(phase.votes[c, p], phase.cast[c, p], phase.ballots.first[c, p], rng, settings.confidence)
        wins = winrates.count_wins(found.outcomes)
        adjusted_a, adjusted_b = wins.rates(settings.ties)
        a, b = phase.wins.a[c, p], phase.wins.b[c, p]
        before = mcnemar.mcnemar(a, b, settings.mcnemar).pvalue
        after = mcnemar.mcnemar(int(wins.a), int(wins.b), settings.mcnemar).pvalue
        turned = np.sign(a - b) != np.sign(wins.a - wins.b)
        rows.append(
            {
                **key,
                **{name: value for name, value in vars(found).items() if name != "outcomes"},
                "adjusted_a": adjusted_a,
                "adjusted_b": adjusted_b,
                "p": before,
                "p_adjusted": after,
                "changes_result": (before < settings.alpha) != (after < settings.alpha)
                or (turned and after < settings.alpha),
            }
        )
    return rows


def length_rows(phase: JudgedPhase) -> Rows:
    """Win rates at equal length, ties as half a win; pairs in which an answer is missing are left out."""
    rows = Rows()
    for c, p, key in phase.ballots.cells():
        a, b = (phase.lengths[phase.ballots.policies.index(key[side])] for side in ("policy_a", "policy_b"))
        both = ~np.isnan(a) & ~np.isnan(b)
        if not both.any():
            continue
        outcomes = (phase.outcomes[c, p][both] + 1) / 2
        found = length_controlled(outcomes, a[both], b[both], phase.settings.confidence)
        rows.append(
            {
                **key,
                "length_a": a[both].mean(),
                "length_b": b[both].mean(),
                "win_rate": outcomes.mean(),
                "controlled": found.rate,
                "low": found.low,
                "high": found.high,
                "slope": found.slope,
                "slope_low": found.slope_low,
                "slope_high": found.slope_high,
            }
        )
    return rows


def persona_and_group_rows(phase: JudgedPhase) -> tuple[Rows, Rows]:
    """Shares of votes won with each persona, to whom the interval speaks, and in each demographic group."""
    ballots, settings = phase.ballots, phase.settings
    of_personas, of_groups = Rows(), Rows()
    attributes = groups.memberships(ballots.personas, phase.demographics)
    reach = float(stats.norm.ppf((1 + settings.confidence) / 2))
    for c, criterion in enumerate(ballots.criteria):
        shares = groups.persona_shares(
            phase.votes[c],
            phase.cast[c],
            len(ballots.policies),
            settings.ties == "half",
            max(1, len(ballots.judges)),
            ballots.places,
        )
        key = {"phase": ballots.phase, "criterion": criterion}
        of_personas += [
            {
                **key,
                "policy": policy,
                "persona_id": persona,
                "win_rate": rate,
                "low": max(0.0, rate - reach * error),
                "high": min(1.0, rate + reach * error),
            }
            for k, policy in enumerate(ballots.policies)
            for persona, rate, error in zip(ballots.personas, shares.rate[k], shares.error[k], strict=True)
            if not np.isnan(rate)
        ]
        for attribute, members in attributes.items():
            rng = rng_of(phase.seed, "groups", ballots.phase, criterion, attribute)
            rows = _group_rows(phase, shares, members, rng)
            of_groups += [{**key, "attribute": attribute, **row} for row in rows]
    return of_personas, of_groups


def _group_rows(
    phase: JudgedPhase,
    shares: groups.PersonaShares,
    members: Mapping[str, NDArray[np.bool_]],
    rng: np.random.Generator,
) -> Rows:
    """The policies in each group of one attribute, and whether the favourite of all is the favourite there.

    ``separated``: another policy wins more votes of the group than the favourite, by an interval that holds for all
    groups of the attribute and all policies at once.
    """
    policies = phase.ballots.policies
    voted = ~np.isnan(shares.rate).any(axis=0)
    members = {group: member & voted for group, member in members.items() if (member & voted).any()}
    if not members:
        return Rows()
    rates = np.array([shares.rate[:, member].mean(axis=1) for member in members.values()])
    errors = groups.group_errors(shares, list(members.values()), phase.settings.draws, rng)
    own = phase.intervals(rates, errors)
    overall = shares.rate[:, voted].mean(axis=1)
    favourite = int(np.argmax(overall))
    lead = phase.intervals(rates - rates[:, [favourite]], errors - errors[..., [favourite]], difference=True, family=2)
    best = np.argmax(rates, axis=1)
    return [
        {
            "policy": policy,
            "group": group,
            "personas": member.sum(),
            "win_rate": rates[g, k],
            "low": own.low[g, k],
            "high": own.high[g, k],
            "overall": overall[k],
            "favourite": k == favourite,
            "best_here": policies[best[g]],
            "separated": lead.all_low[g, best[g]] > 0,
        }
        for g, (group, member) in enumerate(members.items())
        for k, policy in enumerate(policies)
    ]
