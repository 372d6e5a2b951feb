"""Whether a judge that is asked again, or another judge, says the same of the same answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.agreement import cohen_kappa, gwet_ac1
from modpo_hpc.evaluation.ballots import Ballots
from modpo_hpc.evaluation.winrates import majorities


@dataclass(frozen=True)
class Reliability:
    """Agreement of two judgings of one phase under one criterion, of single votes and of majorities.

    ``agreement`` is the share of equal verdicts (A, B or tie), with Cohen's kappa and Gwet's AC1 beside it.
    """

    phase: str
    criterion: str
    votes: int
    agreement: float
    kappa: float
    ac1: float
    questions: int
    majority_agreement: float
    majority_kappa: float


def reliability(one: Ballots, other: Ballots) -> list[Reliability]:
    """Agreement of ``one`` with ``other``, over the votes that were cast in both.

    Raises:
        InputError: they are not of the same phase, policies, criteria, questions and personas.
    """
    for field in ("phase", "policies", "criteria", "questions", "personas", "judges"):
        if getattr(one, field) != getattr(other, field):
            raise InputError(
                f"the two judgings differ in their {field}, so their verdicts cannot be set side by side",
                field=field,
                remedy="Compare runs of one study that differ in the judge only.",
            )
    both = one.cast & other.cast
    outcomes = majorities(np.where(both, one.votes, 0)), majorities(np.where(both, other.votes, 0))
    return [
        Reliability(
            one.phase,
            criterion,
            int(both[c].sum()),
            *_agreement(one.votes[c][both[c]], other.votes[c][both[c]]),
            outcomes[0][c].size,
            *_agreement(outcomes[0][c].ravel(), outcomes[1][c].ravel())[:2],
        )
        for c, criterion in enumerate(one.criteria)
    ]


def _agreement(a: NDArray[np.int8], b: NDArray[np.int8]) -> tuple[float, float, float]:
    first, second = a.tolist(), b.tolist()
    ac1 = gwet_ac1(np.column_stack([a, b]), categories=3)
    return float((a == b).mean()), cohen_kappa(first, second), ac1
