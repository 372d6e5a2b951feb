"""The judges of a panel as raters: how sharply each tells policies apart, and what else moves it.

Judge-aware Bradley-Terry (arXiv 2601.21817): judge j prefers A with probability logistic(g_j (t_A - t_B)), abilities
summing to zero and discriminations with geometric mean 1. A judge that clicks at random gets a discrimination near 0
and little say in the abilities. Discrimination is agreement with the panel, not with people.

A judge's favour for its own family of models is what it gives a policy of that family beyond what judges of neither
policy's family give it, over the same questions and personas (self-preference: Panickssery et al., arXiv 2404.13076).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from modpo_hpc.evaluation.ballots import Ballots
from modpo_hpc.evaluation.crossed import components
from modpo_hpc.evaluation.winrates import Pairs, every_pair

Array = NDArray[np.float64]
_PRIOR = 0.5
_RIDGE = 0.05
_FAMILIES = {
    "gpt": ("gpt", "chatgpt", "o1", "o3", "o4"),
    "claude": ("claude",),
    "gemini": ("gemini", "gemma"),
    "llama": ("llama",),
    "mistral": ("mistral", "mixtral", "ministral"),
    "qwen": ("qwen", "qwq"),
    "deepseek": ("deepseek",),
}
"""Family -> how names of its models begin. A model that none of them fits is a family of its own."""


@dataclass(frozen=True)
class OwnFamily:
    """How much larger a share of its votes a judge gives policies of its family than ``others`` give them.

    ``others`` are the judges of neither family; without any, the favour and its interval are NaN.
    """

    family: str
    policies: tuple[str, ...]
    others: tuple[str, ...]
    favour: float
    low: float
    high: float


def family_of(model: str) -> str:
    """The family of a model, by its name: ``mistralai/Mistral-7B-Instruct-v0.2`` is of ``mistral``."""
    name = model.lower().rsplit("/", 1)[-1]
    words = re.split(r"[^a-z0-9]+", name)
    for family, beginnings in _FAMILIES.items():
        if any(word.startswith(beginnings) for word in words):
            return family
    return name


def own_family(
    ballots: Ballots, criterion: int, judge: str, families: Mapping[str, str], confidence: float = 0.95
) -> OwnFamily | None:
    """The favour of ``judge`` for its own family; None if no pair of the phase has one policy of it and one of another.

    Args:
        judge: one of the panel's, or the name of the only judge.
        families: name of a policy or of a judge -> its family of models.
    """
    family, judges = families[judge], ballots.judges or (judge,)
    policies = tuple(one for one in ballots.policies if families[one] == family)
    pairs = [place for place, pair in enumerate(ballots.pairs) if len({*pair} & {*policies}) == 1]
    if not pairs:
        return None
    votes, cast = (one[criterion] for one in ballots.by_judge())
    mine, seen, listed = judges.index(judge), [], set()
    for place in pairs:
        of_pair = {families[policy] for policy in ballots.pairs[place]}
        others = [j for j, one in enumerate(judges) if families[one] not in of_pair]
        if others:
            side = 1 if ballots.pairs[place][0] in policies else -1
            there = cast[place][:, [mine, *others]].all(axis=1)
            gap = votes[place][:, mine] - votes[place][:, others].mean(axis=1)
            seen.append(np.where(there, side * gap / 2, np.nan))
            listed |= {judges[j] for j in others}
    if not seen:
        return OwnFamily(family, policies, (), np.nan, np.nan, np.nan)
    together = np.array(seen)
    asked = ~np.isnan(together)
    mean = np.where(asked, together, 0).sum(axis=0) / np.maximum(asked.sum(axis=0), 1)
    found = components(mean, asked.any(axis=0))
    others_named = tuple(one for one in judges if one in listed)
    return OwnFamily(family, policies, others_named, found.mean, *found.interval(confidence))


@dataclass(frozen=True)
class JudgeAware:
    """Abilities (policies) and discriminations (judges), each with the ends of its interval."""

    ability: Array
    ability_low: Array
    ability_high: Array
    discrimination: Array
    discrimination_low: Array
    discrimination_high: Array


def judge_aware(
    ballots: Ballots, criterion: int, rng: np.random.Generator, draws: int = 100, confidence: float = 0.95
) -> JudgeAware:
    """The model for one criterion of a panel; intervals come from questions drawn again, each with all its votes."""
    votes, cast = (one[criterion] for one in ballots.by_judge())
    # pairs x judges x questions: votes for A, a tie being half of one, and votes cast
    won = ((votes + 1) / 2 * cast).sum(axis=-1).swapaxes(1, 2)
    asked = cast.sum(axis=-1).swapaxes(1, 2).astype(float)
    places, policies, questions = ballots.places, len(ballots.policies), len(ballots.questions)
    found = fit(won.sum(axis=-1), asked.sum(axis=-1), policies, pairs=places)
    again = []
    for _ in range(draws):
        weight = np.bincount(rng.integers(0, questions, questions), minlength=questions).astype(float)
        again.append(fit(won @ weight, asked @ weight, policies, found, places))
    tail = (1 - confidence) / 2
    ends = [np.quantile(np.array([one[place] for one in again]), [tail, 1 - tail], axis=0) for place in (0, 1)]
    (ability_low, ability_high), (low, high) = ends
    return JudgeAware(found[0], ability_low, ability_high, found[1], low, high)


def fit(
    won: Array, asked: Array, policies: int, start: tuple[Array, Array] | None = None, pairs: Pairs | None = None
) -> tuple[Array, Array]:
    """Abilities and discriminations from votes ``won`` by A of those ``asked`` (pairs x judges).

    The pairs are all there are, or ``pairs``.

    Half a vote for either side is added to each, and log-discriminations are held near 0 by a weak normal prior, so
    that a clean sweep stays finite.
    """
    a, b = np.array(pairs or every_pair(policies)).T
    won, asked = won + _PRIOR, asked + 2 * _PRIOR
    judges = won.shape[1]

    def unpack(theta: Array) -> tuple[Array, Array]:
        ability = np.append(theta[: policies - 1], -theta[: policies - 1].sum())
        slope = np.append(theta[policies - 1 :], -theta[policies - 1 :].sum())
        return ability, np.exp(slope)

    def loss(theta: Array) -> tuple[float, Array]:
        ability, slope = unpack(theta)
        gap = ability[a] - ability[b]
        logits = gap[:, None] * slope[None]
        value = float((asked * np.logaddexp(0, logits) - won * logits).sum())
        excess = asked * expit(logits) - won
        of_gap = (excess * slope[None]).sum(axis=1)
        of_ability = np.zeros(policies)
        np.add.at(of_ability, a, of_gap)
        np.add.at(of_ability, b, -of_gap)
        of_slope = (excess * logits).sum(axis=0) + _RIDGE * np.log(slope)
        value += _RIDGE / 2 * float((np.log(slope) ** 2).sum())
        return value, np.concatenate([of_ability[:-1] - of_ability[-1], of_slope[:-1] - of_slope[-1]])

    if start is None:
        pooled = logit(won.sum(axis=1) / asked.sum(axis=1))
        ability = np.zeros(policies)
        np.add.at(ability, a, pooled / policies)
        np.add.at(ability, b, -pooled / policies)
        start = ability, np.ones(judges)
    first = np.concatenate([start[0][:-1], np.log(start[1])[:-1]])
    return unpack(minimize(loss, first, jac=True, method="L-BFGS-B").x)
