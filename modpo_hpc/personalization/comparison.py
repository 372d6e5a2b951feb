"""How often a persona prefers the answer made with its own weights over those made with the weights of others.

The answer made with weights is the best of the candidates of a question by the weighed rewards. All weights choose
among the same candidates, so that two who choose alike get the same text, which is half a win without anybody being
asked. Personas rank all candidates once, whoever chose which: one judgment serves every pair of weights.

Arrays: rewards (questions, candidates, criteria), weights (personas, criteria), choices (personas, questions), places
(personas, questions, candidates) with 0 for the best, cast (personas, questions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from modpo_hpc.evaluation.crossed import components
from modpo_hpc.evaluation.non_inferiority import NonInferiority, non_inferiority
from modpo_hpc.personalization.gate import permutation_p
from modpo_hpc.personalization.weights import Profiles

Array = NDArray[np.float64]
Choices = NDArray[np.int64]


@dataclass(frozen=True)
class Effect:
    """A share of preferences minus one half, its interval by questions and personas, and a one-sided p.

    ``differs`` is the share of comparisons in which the two texts are not the same. ``p`` is NaN where permuting the
    personas tests nothing.
    """

    estimate: float
    error: float
    low: float
    high: float
    p: float
    differs: float


@dataclass(frozen=True)
class Safety:
    """The personal answers against the population's in safety: share of judgments won less share lost.

    ``low`` and ``high`` are its interval by questions and personas; ``personas`` (personas,) are the differences of
    each, ``worst`` the one that loses most, with the house's test of its questions.
    """

    difference: float
    low: float
    high: float
    differs: float
    personas: Array
    worst: int
    worst_test: NonInferiority
    non_inferior: bool


@dataclass(frozen=True)
class ArmComparison:
    """One arm: its own answers against those of others, of the population, and of a stranger (the control)."""

    other: Effect
    population: Effect
    deranged: Effect
    persona_effects: Array


def choices(rewards: Array, weights: Array) -> Choices:
    """The best candidate of each question for each of ``weights``, the first of equals: (personas, questions)."""
    found: Choices = np.argmax(np.einsum("qnc,pc->pqn", rewards, weights), axis=2)
    return found


def compare(
    rewards: Array,
    profiles: Profiles,
    places: NDArray[np.int64],
    cast: NDArray[np.bool_],
    confidence: float,
    draws: int,
    rng: np.random.Generator,
) -> ArmComparison:
    """The answers of every persona's own weights against those of all others, by that persona's own rankings.

    The test deals the personas' weights out to the personas at random. Each persona keeps its judgments of all
    questions and each weights their choices on all questions, so that nothing is assumed independent within either.
    """
    chosen, common = _chosen(rewards, profiles)
    against = against_others(chosen, places)
    personas = len(chosen)
    one_hot = np.eye(places.shape[2])[chosen].reshape(personas, -1)
    shares = np.where(cast[..., None], against, 0.0).reshape(personas, -1) @ one_hot.T * personas / cast.sum()
    own = _of_chosen(against, chosen)
    p = permutation_p(shares, float(np.trace(shares)), draws, rng)
    stranger = derangement(personas, rng)
    strange = _of_chosen(against, chosen[stranger])
    trace = float(shares[np.arange(personas), stranger].sum())
    counts = np.eye(places.shape[2])[chosen].sum(axis=0)
    same = np.take_along_axis(counts, chosen.T, axis=1) - 1
    differs = 1 - float(same.mean()) / (personas - 1)
    beyond = preferred(places, chosen, common)
    return ArmComparison(
        _effect(own, cast, confidence, p, differs),
        _effect(beyond, cast, confidence, math.nan, float((chosen != common).mean())),
        _effect(strange, cast, confidence, permutation_p(shares, trace, draws, rng), differs),
        np.where(cast, own, 0.0).sum(axis=1) / np.maximum(cast.sum(axis=1), 1) - 0.5,
    )


def _chosen(rewards: Array, profiles: Profiles) -> tuple[Choices, Choices]:
    """What each persona's own weights choose, and what the population's choose for it."""
    chosen = choices(rewards, profiles.personas)
    return chosen, np.broadcast_to(choices(rewards, profiles.population[None])[0], chosen.shape)


def is_finding(effect: Effect, p: float, alpha: float, smallest: float) -> bool:
    """Whether ``effect`` counts: not by chance (``p``), and its whole interval above the ``smallest`` that matters.

    With many judgments the test alone finds what no person would notice.
    """
    return p <= alpha and effect.low > smallest


def against_others(chosen: Choices, places: NDArray[np.int64]) -> Array:
    """Share of the other personas' answers that a persona ranks below each candidate, as ``places`` in shape.

    An answer of the same text counts one half; so a persona that is indifferent has one half on average.
    """
    personas, candidates = len(chosen), places.shape[2]
    counts = np.eye(candidates)[chosen].sum(axis=0)
    above = (places[..., :, None] < places[..., None, :]) + 0.5 * np.eye(candidates)
    beaten = np.einsum("pqij,qj->pqi", above, counts)
    return np.asarray((beaten - 0.5) / (personas - 1))


def preferred(places: NDArray[np.int64], one: Choices, other: Choices) -> Array:
    """1 where a persona ranks the candidate of ``one`` above that of ``other``, one half where they are the same."""
    return np.where(one == other, 0.5, (_of_chosen(places, one) < _of_chosen(places, other)).astype(float))


def _of_chosen(values: NDArray[Any], chosen: Choices) -> NDArray[Any]:
    """Of ``values`` (personas, questions, candidates) those of the candidates ``chosen``."""
    return np.take_along_axis(values, chosen[..., None], axis=2)[..., 0]


def derangement(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """To each of ``count`` another one, at random: a single cycle, so that nobody gets the own."""
    order = rng.permutation(count)
    found = np.empty(count, dtype=np.int64)
    found[order] = np.roll(order, 1)
    return found


def safety_of(
    rewards: Array,
    profiles: Profiles,
    places: NDArray[np.int64],
    cast: NDArray[np.bool_],
    margin: float,
    confidence: float,
) -> Safety:
    """Whether the personal answers are less safe than the population's by ``margin`` or more; places are by safety.

    They are shown not to be where the interval of ``confidence``, of questions and personas, is above the margin.
    """
    votes, differs = _safety_votes(rewards, profiles, places, cast)
    mean = _effect((votes + 1) / 2, cast, confidence, math.nan, differs)
    personas = np.where(cast, votes, 0).sum(axis=1) / np.maximum(cast.sum(axis=1), 1)
    worst = int(personas.argmin())
    # a share of preferences minus one half is half of the share won less the share lost
    low, high = 2 * mean.low, 2 * mean.high
    test = persona_safety(rewards, profiles, places, cast, worst, margin, confidence)
    return Safety(2 * mean.estimate, low, high, differs, personas, worst, test, low > -margin)


def persona_safety(
    rewards: Array,
    profiles: Profiles,
    places: NDArray[np.int64],
    cast: NDArray[np.bool_],
    persona: int,
    margin: float,
    confidence: float,
) -> NonInferiority:
    """The paired test of one persona's questions: its own answers against the population's (Tango 1998)."""
    votes, _ = _safety_votes(rewards, profiles, places, cast)
    mine = votes[persona][cast[persona]]
    return non_inferiority(int((mine > 0).sum()), int((mine < 0).sum()), len(mine), margin, confidence)


def _safety_votes(
    rewards: Array, profiles: Profiles, places: NDArray[np.int64], cast: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], float]:
    chosen, common = _chosen(rewards, profiles)
    votes = np.where(cast, np.sign(preferred(places, chosen, common) - 0.5), 0).astype(np.int64)
    return votes, float((chosen != common).mean())


def _effect(values: Array, cast: NDArray[np.bool_], confidence: float, p: float, differs: float) -> Effect:
    """The mean of ``values`` (personas, questions) less one half, both as a sample (crossed random effects)."""
    found = components(values.T - 0.5, cast.T)
    degrees = max(1, min(values.shape) - 1)
    reach = float(stats.t.ppf((1 + confidence) / 2, degrees)) * found.error
    return Effect(found.mean, found.error, found.mean - reach, found.mean + reach, p, differs)
