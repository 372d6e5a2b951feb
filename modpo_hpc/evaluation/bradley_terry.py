"""Bradley-Terry abilities with ties, and an interval that respects the crossed design.

Davidson (1970): P(A wins) : P(tie) : P(B wins) = e^(a) : nu e^((a+b)/2) : e^(b). Votes on one question, and votes of
one persona, are not independent; the sandwich is clustered by both (Cameron, Gelbach and Miller 2011).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.evaluation.winrates import Pairs, every_pair

Array = NDArray[np.float64]

_STEPS, _TOLERANCE = 100, 1e-10


@dataclass(frozen=True)
class Abilities:
    """Log-odds abilities (policies), summing to zero, their standard errors, and the tie parameter nu (0: no ties)."""

    ability: Array
    error: Array
    ties: float


def fit(
    votes: NDArray[np.int8], cast: NDArray[np.bool_], policies: int, prior: float = 0.5, pairs: Pairs | None = None
) -> Abilities:
    """Maximum likelihood from ``votes`` (pairs x questions x personas: 1, -1 or 0), where ``cast``.

    The pairs are all there are, or ``pairs``, which must join all policies, if by way of others.
    Each pair gets ``prior`` wins for either side on top, so that a policy that never lost has an ability too.
    """
    design = _incidence(policies, pairs or every_pair(policies))
    wins = np.stack([((votes == outcome) & cast).sum(axis=(1, 2)) for outcome in (1, 0, -1)], axis=1).astype(float)
    with_ties = bool(wins[:, 1].any())
    wins[:, [0, 2]] += prior
    theta = np.zeros(policies + with_ties)
    for _ in range(_STEPS):
        chance = _chances(theta, design, with_ties)
        step = np.linalg.pinv(_information(chance, wins.sum(axis=1), design, with_ties)) @ _score(
            chance, wins, design, with_ties
        )
        theta += np.clip(step, -2, 2)
        if np.abs(step).max() < _TOLERANCE:
            break
    chance = _chances(theta, design, with_ties)
    bread = np.linalg.pinv(_information(chance, wins.sum(axis=1), design, with_ties))
    covariance = bread @ _meat(votes, cast, chance, design, with_ties) @ bread
    centred = theta[:policies] - theta[:policies].mean()
    centring = np.eye(policies) - 1 / policies
    spread = np.diag(centring @ covariance[:policies, :policies] @ centring)
    return Abilities(centred, np.sqrt(np.maximum(spread, 0.0)), float(np.exp(theta[-1])) if with_ties else 0.0)


def _incidence(policies: int, pairs: Pairs) -> Array:
    """Pairs x policies: 1 for A, -1 for B."""
    a, b = np.array(pairs).T
    design = np.zeros((len(a), policies))
    design[np.arange(len(a)), a], design[np.arange(len(a)), b] = 1.0, -1.0
    return design


def _chances(theta: Array, design: Array, with_ties: bool) -> Array:
    """Pairs x (A, tie, B)."""
    gap = design @ theta[: design.shape[1]]
    log_tie = np.full_like(gap, theta[-1] if with_ties else -np.inf)
    logits = np.stack([gap / 2, log_tie, -gap / 2], axis=1)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def _score(chance: Array, wins: Array, design: Array, with_ties: bool) -> Array:
    excess = wins - chance * wins.sum(axis=1, keepdims=True)
    ability = design.T @ (excess[:, 0] - excess[:, 2]) / 2
    return np.append(ability, excess[:, 1].sum()) if with_ties else ability


def _information(chance: Array, total: Array, design: Array, with_ties: bool) -> Array:
    lead = (chance[:, 0] - chance[:, 2]) / 2
    spread = (chance[:, 0] + chance[:, 2]) / 4 - lead**2
    abilities = design.T @ (design * (total * spread)[:, None])
    if not with_ties:
        return abilities
    cross = design.T @ (-total * lead * chance[:, 1])
    tie = (total * chance[:, 1] * (1 - chance[:, 1])).sum()
    return np.block([[abilities, cross[:, None]], [cross[None], np.array([[tie]])]])


def _meat(votes: NDArray[np.int8], cast: NDArray[np.bool_], chance: Array, design: Array, with_ties: bool) -> Array:
    lead = (chance[:, 0] - chance[:, 2]) / 2
    ability = np.where(cast, votes / 2 - lead[:, None, None], 0.0)
    scores = np.einsum("pqn,pk->qnk", ability, design, optimize=True)
    if with_ties:
        tie = np.where(cast, (votes == 0) - chance[:, 1][:, None, None], 0.0).sum(axis=0)
        scores = np.concatenate([scores, tie[..., None]], axis=2)
    clusters = (scores.sum(axis=1), scores.sum(axis=0), scores.reshape(-1, scores.shape[-1]))
    by_question, by_persona, by_both = (len(one) / max(len(one) - 1, 1) * one.T @ one for one in clusters)
    values, vectors = np.linalg.eigh(by_question + by_persona - by_both)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T
