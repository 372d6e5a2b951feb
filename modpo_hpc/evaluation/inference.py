"""How far estimates of a crossed design would move with other questions and other personas: one model for all tables.

Every question is judged by every persona, and both are samples. Given the personas the questions are independent, so
their spread gives the first part of the variance, the interaction of questions and personas included. The second part
is what other personas would change on all questions at once: the influence of each persona (infinitesimal jackknife),
less the noise that the sampling of the questions puts into it. The win of a majority is a step in the votes; its
derivative is taken by a kernel over the questions on which the votes are nearly even: Hoeffding's projection, smoothed.

Errors are drawn jointly for all estimates of a phase, around zero: normal over questions, Student's t over personas, of
whom there are few. Win rates, differences, averages, ranks and groups all come from the same draws around the same
estimates, so that none of them can say what another denies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from modpo_hpc.evaluation.winrates import Pairs, every_pair

Array = NDArray[np.float64]

BANDWIDTH = 0.4
"""Width of the kernel, in standard deviations of a question's margin over panels of personas."""
PSEUDO = 2
"""Questions that are counted as won by either side besides, for the variance alone (Agresti and Coull 1998)."""


@dataclass(frozen=True)
class Interval:
    """Bounds of estimates, each by itself and all at once; shapes as the estimates."""

    low: Array
    high: Array
    all_low: Array
    all_high: Array


def intervals(
    estimate: Array, errors: Array, confidence: float, questions: int, difference: bool = False, family: int = 1
) -> Interval:
    """Intervals of shares, or of ``difference``s of shares (...), from drawn ``errors`` (draws x ...).

    They are symmetric on the scale of a normal quantile, on which what moves all votes at once moves a share evenly,
    around the share with the pseudo-questions; so none leaves its bounds. The simultaneous ones hold together over
    the last ``family`` axes: no standardised error is larger than their largest, with this confidence.
    """
    error = errors.std(axis=0)
    reach = np.quantile(np.abs(errors), confidence, axis=0)
    axes = tuple(range(errors.ndim - family, errors.ndim))
    standardised = np.abs(errors) / np.where(error > 0, error, 1.0)
    largest = np.quantile(standardised.max(axis=axes, keepdims=True), confidence, axis=0)
    together = np.maximum(largest * error, reach)
    unit = 2.0 if difference else 1.0
    share = (estimate + difference) / unit
    centre = norm.ppf((share * questions + PSEUDO) / (questions + 2 * PSEUDO))
    slope = unit * norm.pdf(centre)
    low, high, all_low, all_high = (
        unit * norm.cdf(centre + side / slope) - difference for side in (-reach, reach, -together, together)
    )
    return Interval(
        np.minimum(low, estimate),
        np.maximum(high, estimate),
        np.minimum(all_low, estimate),
        np.maximum(all_high, estimate),
    )


def majority_errors(
    votes: NDArray[np.int8], draws: int, rng: np.random.Generator, judges: int = 1, places: Pairs | None = None
) -> Array:
    """Drawn errors (draws x 2 x pairs) of the shares of questions won by A and by B.

    Of ``votes`` (pairs x questions x personas: 1 for A, -1 for B, 0 for neither). With several ``judges`` the last
    axis is judges x personas; a persona's votes are added up, since the judges are no sample. ``places`` are the
    pairs, if they are not all that there are.
    """
    pairs, questions, voters = votes.shape
    heard = votes.reshape(pairs, questions, judges, voters // judges).sum(axis=2, dtype=np.float32)
    margins = heard.sum(axis=-1)
    centred = heard - margins[..., None] / heard.shape[-1]
    scatter = (centred**2).sum(axis=-1).mean(axis=-1)
    even, odd = ((margins % 2 == rest).all(axis=-1) for rest in (0, 1))
    # the step lies half way from a draw to the smallest margin there can be: no ties, and margins go in steps of two
    threshold = np.select([even, odd], [1.0, 0.0], 0.5)[:, None]
    width = np.maximum(BANDWIDTH * np.sqrt(scatter), np.where(even | odd, 0.7, 0.35))[:, None]
    values, influence = [], []
    for side in (1, -1):
        step = np.exp(-0.5 * ((side * margins - threshold) / width) ** 2) / (width * np.sqrt(2 * np.pi))
        influence.append(side * step[..., None] * centred)
        values.append((side * margins > 0).astype(float))
    won = np.concatenate(values)
    return (
        question_errors(won, draws, rng, _pseudo_questions(places or _all_of(pairs)))
        + persona_errors(np.concatenate(influence), draws, rng)
    ).reshape(draws, 2, pairs)


def question_errors(values: Array, draws: int, rng: np.random.Generator, pseudo: Array | None = None) -> Array:
    """Drawn errors (draws x cells) of the means of ``values`` (cells x questions) with other questions."""
    added = values if pseudo is None else np.concatenate([values, pseudo], axis=1)
    centred = added - added.mean(axis=1, keepdims=True)
    count = added.shape[1]
    return rng.standard_normal((draws, count)) @ centred.T / np.sqrt(count * (count - 1))


def persona_errors(influence: NDArray[np.floating], draws: int, rng: np.random.Generator) -> Array:
    """Drawn errors (draws x cells) with other personas.

    From ``influence`` (cells x questions x personas): what a unit of a persona's weight moves on each question.
    """
    cells, questions, personas = influence.shape
    mean = influence.mean(axis=1)
    rest = (influence - mean[:, None]).reshape(cells, -1)
    noise = rest @ rest.T / (questions * (questions - 1))
    covariance = (mean @ mean.T - noise).astype(float) * personas / (personas - 1)
    return student_errors(covariance, draws, rng, personas - 1)


def student_errors(covariance: Array, draws: int, rng: np.random.Generator, freedom: int) -> Array:
    """Drawn errors (draws x cells) of Student's t with this ``covariance`` as its scale, negative parts left out."""
    values, vectors = np.linalg.eigh(covariance)
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    scale = np.sqrt(freedom / rng.chisquare(freedom, draws))[:, None]
    return scale * (rng.standard_normal((draws, len(values))) @ factor.T)


def _all_of(pairs: int) -> Pairs:
    return every_pair(round((1 + np.sqrt(1 + 8 * pairs)) / 2))


def _pseudo_questions(pairs: Pairs) -> Array:
    """Wins of A, then of B (2 pairs x questions) on the questions that are counted besides: each side wins PSEUDO."""
    first, second = np.array(pairs).T
    order = np.arange(max(second) + 1)
    rankings = [np.roll(order, turn) for turn in range(PSEUDO)]
    won = np.stack([one[first] < one[second] for ranking in rankings for one in (ranking, -ranking)], axis=1)
    return np.concatenate([won, ~won]).astype(float)
