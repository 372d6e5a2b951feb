"""Who prefers what: win rates of single personas and of demographic groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.evaluation.shrinkage import Shrunk, shrink

Array = NDArray[np.float64]

ATTRIBUTES = ("population", "age_group", "gender", "primary_ethnicity")
NOT_STATED = "not stated"


def persona_rates(
    votes: NDArray[np.int8], cast: NDArray[np.bool_], policies: int, half_ties: bool, judges: int = 1
) -> tuple[Array, Array]:
    """Share of its votes that each policy wins with each persona, and the variance of that share (policies x personas).

    From ``votes`` (pairs x questions x personas) over all opponents. The questions are the sample: the variance is
    that of the per-question shares over their number. The last axis may be several judges x personas. NaN where a
    persona cast no vote.
    """
    pair_a, pair_b = np.triu_indices(policies, 1)
    share_a = np.where(cast, (votes == 1) + 0.5 * half_ties * (votes == 0), 0.0)
    share_b = np.where(cast, (votes == -1) + 0.5 * half_ties * (votes == 0), 0.0)
    won = np.zeros((policies, *votes.shape[1:]))
    compared = np.zeros((policies, *votes.shape[1:]))
    for pair, (a, b) in enumerate(zip(pair_a, pair_b, strict=True)):
        won[a] += share_a[pair]
        won[b] += share_b[pair]
        compared[a] += cast[pair]
        compared[b] += cast[pair]
    won, compared = (one.reshape(*one.shape[:2], judges, -1).sum(axis=2) for one in (won, compared))
    total = compared.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = won.sum(axis=1) / total
        # ratio estimator: residuals of each question about the persona's rate
        residual = won - rate[:, None, :] * compared
        variance = (residual**2).sum(axis=1) / total**2
    return rate, variance


def group_rates(rates: Array, members: Sequence[NDArray[np.bool_]], confidence: float) -> tuple[Array, Shrunk]:
    """Mean of ``rates`` (personas) in each group of ``members``, as it is and shrunk.

    The variance of a group's mean is the pooled variance between personas of the same group over its size, so a group
    of one or two leans on the whole.
    """
    valid = ~np.isnan(rates)
    groups = [rates[member & valid] for member in members]
    means = np.array([group.mean() for group in groups])
    freedom = sum(len(group) - 1 for group in groups)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / freedom if freedom else 0.25
    sizes = np.array([len(group) for group in groups])
    return means, shrink(means, within / sizes, confidence)


def memberships(
    personas: Sequence[str], demographics: Mapping[str, Mapping[str, str | None]]
) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Attribute -> group -> who of ``personas`` is in it; attributes in which all are alike are left out."""
    found: dict[str, dict[str, NDArray[np.bool_]]] = {}
    for attribute in ATTRIBUTES:
        values = np.array([demographics[one].get(attribute) or NOT_STATED for one in personas])
        groups = sorted(set(values), key=lambda value: (value == NOT_STATED, value))
        if len(groups) > 1:
            found[attribute] = {group: values == group for group in groups}
    return found
