"""Families of policies on the plane of their rewards: fronts, hypervolumes, ranges, and whether weights are followed.

Rewards are those of the policies' answers to the test questions by the final reward models. Intervals are percentiles
over questions drawn again, the same draws for all policies; the reward models and the trainings are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.evaluation import pareto
from modpo_hpc.evaluation.tables import Rows
from modpo_hpc.intervals import percentiles
from modpo_hpc.study import Study

Array = NDArray[np.float64]

VOLUME_DRAWS = 400


@dataclass(frozen=True)
class Family:
    """The policies of one sweep: ``weights`` (policies x criteria) are shares of one."""

    name: str
    policies: tuple[str, ...]
    criteria: tuple[str, ...]
    weights: Array


@dataclass(frozen=True)
class MeanRewards:
    """Mean rewards (policies x criteria), and drawn ones (draws x policies x criteria) with other questions."""

    policies: tuple[str, ...]
    criteria: tuple[str, ...]
    mean: Array
    drawn: Array

    def of(self, policies: Sequence[str], criteria: Sequence[str]) -> MeanRewards:
        """Of these policies and criteria alone."""
        rows, columns = [*map(self.policies.index, policies)], [*map(self.criteria.index, criteria)]
        return MeanRewards(
            tuple(policies), tuple(criteria), self.mean[np.ix_(rows, columns)], self.drawn[:, rows][..., columns]
        )


def families_of(study: Study) -> list[Family]:
    """The families of the study, with the weights of criteria that each policy was asked for."""
    found = []
    for sweep in study.alignment.sweep or ():
        asked = {name: asked_weights(study, name) for name in sweep.policies}
        criteria = tuple(dict.fromkeys(criterion for one in asked.values() for criterion in one))
        weights = np.array([[one.get(criterion, 0.0) for criterion in criteria] for one in asked.values()])
        found.append(Family(sweep.name, tuple(asked), criteria, weights / weights.sum(axis=1, keepdims=True)))
    return found


def asked_weights(study: Study, policy: str) -> dict[str, float]:
    """Criterion -> weight that ``policy`` was asked for; of a policy made of policies, through those."""
    weights: dict[str, float] = {}
    for name, weight in study.alignment.policies[policy].made_of.items():
        parts = {name: 1.0} if name in study.criteria.rank else asked_weights(study, name)
        whole = sum(parts.values()) or 1.0
        for criterion, share in parts.items():
            weights[criterion] = weights.get(criterion, 0.0) + weight * share / whole
    return weights


def specialists_of(study: Study, criteria: Sequence[str]) -> dict[str, str]:
    """Criterion -> the policy that is trained for it alone, by DPO if there is such a one."""
    trained = sorted(study.alignment.trained.items(), key=lambda one: one[1].method != "dpo")
    alone = {next(iter(one.made_of)): name for name, one in reversed(trained) if len(one.made_of) == 1}
    return {criterion: alone[criterion] for criterion in criteria if criterion in alone}


def reference_of(study: Study, rewards: MeanRewards, criteria: Sequence[str]) -> Array:
    """The rewards that volumes are measured from: the study's, else those of the base policy, else zero."""
    base = next((name for name, one in study.alignment.policies.items() if one.is_baseline), None)
    own = dict(zip(rewards.criteria, rewards.of([base], rewards.criteria).mean[0], strict=True)) if base else {}
    stated = study.alignment.reference_point or {}
    return np.array([stated.get(criterion, own.get(criterion, 0.0)) for criterion in criteria])


def rewards_of(
    values: Mapping[tuple[str, str], Mapping[str, float]],
    questions: Sequence[str],
    draws: int,
    rng: np.random.Generator,
) -> MeanRewards:
    """From (policy, criterion) -> question -> reward."""
    policies, criteria = (tuple(dict.fromkeys(key[place] for key in values)) for place in (0, 1))
    cube = np.array([[[values[one, of][q] for of in criteria] for q in questions] for one in policies])
    times = rng.multinomial(len(questions), np.full(len(questions), 1 / len(questions)), size=draws) / len(questions)
    return MeanRewards(policies, criteria, cube.mean(axis=1), np.einsum("dq,pqc->dpc", times, cube, optimize=True))


def point_rows(family: Family, rewards: MeanRewards, reference: Array, confidence: float) -> Rows:
    """A row for each policy and criterion: weight asked, reward got, and the policy's part in the volume."""
    mine = rewards.of(family.policies, family.criteria)
    low, high = _ends(mine.drawn, confidence)
    drawn = mine.drawn[:VOLUME_DRAWS]
    on_front, part = pareto.front(mine.mean), pareto.contributions(mine.mean, reference)
    certain = np.mean([pareto.front(one) for one in drawn], axis=0)
    part_low, part_high = _ends(np.array([pareto.contributions(one, reference) for one in drawn]), confidence)
    return [
        {
            "family": family.name,
            "policy": policy,
            "criterion": criterion,
            "weight": family.weights[p, c],
            "reward": mine.mean[p, c],
            "low": low[p, c],
            "high": high[p, c],
            "on_front": on_front[p],
            "front_probability": certain[p],
            "contribution": part[p],
            "contribution_low": part_low[p],
            "contribution_high": part_high[p],
        }
        for p, policy in enumerate(family.policies)
        for c, criterion in enumerate(family.criteria)
    ]


def family_row(
    family: Family, first: Family, rewards: MeanRewards, reference: Array, confidence: float
) -> dict[str, Any]:
    """Volume and sparsity of a family, and its volume beside that of the ``first`` one of the same criteria."""
    mine, other = (rewards.of(one.policies, family.criteria) for one in (family, first))
    volumes, others = (
        np.array([pareto.hypervolume(one, reference) for one in (which.mean, *which.drawn[:VOLUME_DRAWS])])
        for which in (mine, other)
    )
    low, high = _ends(volumes[1:], confidence)
    ratio = _ratio(volumes, others)
    ratio_low, ratio_high = percentiles(ratio[1:], (1 - confidence) / 2)
    return {
        "family": family.name,
        "criteria": list(family.criteria),
        "reference": reference.tolist(),
        "policies": len(family.policies),
        "on_front": pareto.front(mine.mean).sum(),
        "hypervolume": volumes[0],
        "low": low,
        "high": high,
        "beside": first.name,
        "ratio": ratio[0],
        "ratio_low": ratio_low,
        "ratio_high": ratio_high,
        "sparsity": sparsity(mine.mean),
    }


def range_rows(family: Family, rewards: MeanRewards, specialists: Mapping[str, str], confidence: float) -> Rows:
    """Of each criterion: how far the family reaches, as a share of its specialists, and whether weights are followed.

    Tau alone says nothing: a family that hardly moves can be in perfect order.
    """
    mine = rewards.of(family.policies, family.criteria)
    reach, drawn_reach = np.ptp(mine.mean, axis=0), np.ptp(mine.drawn, axis=1)
    span, drawn_span = np.full_like(reach, np.nan), np.full_like(drawn_reach, np.nan)
    if all(criterion in specialists for criterion in family.criteria):
        alone = rewards.of([specialists[one] for one in family.criteria], family.criteria)
        span, drawn_span = np.ptp(alone.mean, axis=0), np.ptp(alone.drawn, axis=1)
    share, (share_low, share_high) = _ratio(reach, span), _ends(_ratio(drawn_reach, drawn_span), confidence)
    rows = Rows()
    for c, criterion in enumerate(family.criteria):
        asked = family.weights[:, c]
        tau_low, tau_high = _ends(kendall_tau(asked, mine.drawn[..., c]), confidence)
        rows.append(
            {
                "family": family.name,
                "criterion": criterion,
                "range": reach[c],
                "specialists_range": span[c],
                "share": share[c],
                "share_low": share_low[c],
                "share_high": share_high[c],
                "tau": float(kendall_tau(asked, mine.mean[:, c])),
                "tau_low": tau_low,
                "tau_high": tau_high,
            }
        )
    return rows


def sparsity(points: Array) -> float:
    """Mean squared gap between neighbours on the front of ``points``, summed over criteria (Xu et al. 2020, PGMORL).

    NaN for a front of one point.
    """
    best = points[pareto.front(points)]
    if len(best) < 2:
        return float("nan")
    return float((np.diff(np.sort(best, axis=0), axis=0) ** 2).sum() / (len(best) - 1))


def kendall_tau(one: Array, other: Array) -> Array:
    """Kendall's tau-b of ``one`` (n) with the last axis of ``other`` (... x n); 0 where one of them is constant."""
    first, second = np.triu_indices(len(one), 1)
    mine, theirs = np.sign(one[first] - one[second]), np.sign(other[..., first] - other[..., second])
    untied = np.sqrt((mine != 0).sum() * (theirs != 0).sum(axis=-1))
    agreement = (mine * theirs).sum(axis=-1)
    return np.divide(agreement, untied, out=np.zeros_like(untied), where=untied > 0)


def _ratio(one: Array, other: Array) -> Array:
    """``one`` over ``other``; NaN where that is not above zero."""
    return np.divide(one, other, out=np.full_like(one, np.nan), where=other > 0)


def _ends(drawn: Array, confidence: float) -> Array:
    """Both ends of the interval over the first axis."""
    tail = (1 - confidence) / 2
    ends: Array = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return ends
