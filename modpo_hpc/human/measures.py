"""How well one set of labels agrees with another, and what a majority of raters said. Labels are 1 (A), -1 (B), 0."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.evaluation.agreement import cohen_kappa, gwet_ac1
from modpo_hpc.human.answers import MISSING, TIE, WON_A, WON_B

Rule = Literal["majority", "absolute", "plurality"]
CLASSES = (1, 0, -1)
Labels = NDArray[np.int8]


@dataclass(frozen=True)
class Agreement:
    """Agreement of ``guess`` with ``truth`` over ``n`` questions.

    ``constant`` is the accuracy of always giving the commonest label of ``truth``: an accuracy near it says little.
    ``balanced`` is the mean share of each true label that was found. NaN where a measure is not defined.
    """

    n: int
    accuracy: float
    kappa: float
    ac1: float
    balanced: float
    constant: float

    def row(self) -> dict[str, float]:
        """The measures by name."""
        return asdict(self)


def consensus(labels: Labels, rule: Rule = "majority") -> Labels:
    """The label of each question from ``labels`` (raters x questions): int8 (questions).

    ``majority`` is the paper's: A where more raters said A than B, whatever their ties. ``absolute`` takes the label
    that more than half of the raters gave, ``plurality`` the one given most often. Where there is none, the question
    is a tie. MISSING where nobody judged.
    """
    counts = np.stack([(labels == one).sum(axis=0) for one in CLASSES])
    judged = counts.sum(axis=0)
    top = counts.max(axis=0)
    if rule == "majority":
        lead = (labels == WON_A).sum(axis=0) - (labels == WON_B).sum(axis=0)
        return np.where(judged == 0, MISSING, np.sign(lead)).astype(np.int8)
    clear = 2 * top > judged if rule == "absolute" else (counts == top).sum(axis=0) == 1
    winner = np.array(CLASSES, dtype=np.int8)[counts.argmax(axis=0)]
    return np.where(judged == 0, MISSING, np.where(clear, winner, TIE)).astype(np.int8)


def known(labels: Labels, classes: int) -> NDArray[np.bool_]:
    """Where there is a label, with two ``classes`` one that is no tie."""
    return (labels != MISSING) & ((labels != TIE) | (classes != 2))


def agreement(truth: Labels, guess: Labels, classes: int) -> Agreement:
    """Agreement where both have a label; with two ``classes`` questions that either calls a tie are left out."""
    both = known(truth, classes) & known(guess, classes)
    a, b = truth[both], guess[both]
    if not len(a):
        return Agreement(0, *([math.nan] * 5))
    found = [float((b[a == one] == one).mean()) for one in CLASSES if (a == one).any()]
    return Agreement(
        n=len(a),
        accuracy=float((a == b).mean()),
        kappa=cohen_kappa(a.tolist(), b.tolist()),
        ac1=gwet_ac1(np.column_stack([a, b]).tolist(), classes),
        balanced=float(np.mean(found)),
        constant=float(max((a == one).mean() for one in CLASSES)),
    )


def confusion(truth: Labels, guess: Labels) -> NDArray[np.int64]:
    """Counts (true label x given label), both in the order A, tie, B."""
    return np.array([[int(((truth == t) & (guess == g)).sum()) for g in CLASSES] for t in CLASSES])


def without(labels: Labels, rater: int, rule: Rule) -> Labels:
    """What the others said on the questions that ``rater`` judged; MISSING elsewhere."""
    others = consensus(np.delete(labels, rater, axis=0), rule)
    return np.where(labels[rater] == MISSING, MISSING, others).astype(np.int8)
