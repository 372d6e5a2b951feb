"""Two-way bootstrap: questions and personas are both samples, so both are drawn again.

Owen (2007), "The pigeonhole bootstrap": rows and columns of a crossed design are resampled independently; the
variance so estimated is slightly conservative, never too small for lack of one of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.seeds import rng_of


@dataclass(frozen=True)
class Replicates:
    """Shares of the questions won (replicates x criteria x pairs) by A and by B when the design is drawn again."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]


def two_way(votes: NDArray[np.int8], replicates: int, *seed: object, block: int = 250, judges: int = 1) -> Replicates:
    """Draw questions and personas of ``votes`` (criteria x pairs x questions x personas) again, with replacement.

    All cells share the draws, so differences of policies can be taken replicate by replicate. The majority of a
    question is that of the drawn personas. With several ``judges`` the last axis is judges x personas, and a persona
    that is drawn votes with every one of them: the judges are no sample. Work goes in blocks of replicates: ``block``
    bounds the memory, never the result.
    """
    criteria, pairs, questions, voters = votes.shape
    personas = voters // judges
    rng = rng_of(*seed, "two_way", replicates)
    drawn_personas = rng.multinomial(personas, np.full(personas, 1 / personas), size=replicates).astype(np.float32)
    drawn_personas = np.tile(drawn_personas, judges)
    drawn_questions = rng.multinomial(questions, np.full(questions, 1 / questions), size=replicates).astype(np.float32)
    won = np.empty((2, replicates, criteria, pairs))
    for criterion in range(criteria):
        for pair in range(pairs):
            cell = votes[criterion, pair].astype(np.float32)
            for start in range(0, replicates, block):
                part = slice(start, start + block)
                margin = drawn_personas[part] @ cell.T
                weight = drawn_questions[part]
                won[0, part, criterion, pair] = np.einsum("rq,rq->r", weight, margin > 0)
                won[1, part, criterion, pair] = np.einsum("rq,rq->r", weight, margin < 0)
    return Replicates(won[0] / questions, won[1] / questions)


def interval(
    estimate: NDArray[np.float64],
    draws: NDArray[np.float64],
    confidence: float,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Interval of ``estimate`` (...) from ``draws`` (replicates x ...): their percentiles, moved to its centre.

    Personas drawn again agree less than the personas themselves, which pulls every majority towards a draw. The
    spread of the draws is what is wanted, their shift is not; so it is taken out. Clipped to ``bounds``; NaN
    without replicates.
    """
    if draws.shape[0] == 0:
        return percentiles(draws, confidence)
    low, high = percentiles(draws - draws.mean(axis=0), confidence)
    return np.clip(estimate + low, *bounds), np.clip(estimate + high, *bounds)


def percentiles(draws: NDArray[np.float64], confidence: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middle ``confidence`` of ``draws`` (replicates x ...); NaN without replicates."""
    if draws.shape[0] == 0:
        return np.full(draws.shape[1:], np.nan), np.full(draws.shape[1:], np.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high
