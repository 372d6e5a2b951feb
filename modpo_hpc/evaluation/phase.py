"""What all tables of one phase are made from, worked out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from modpo_hpc.evaluation import inference, winrates
from modpo_hpc.evaluation.ballots import Ballots
from modpo_hpc.evaluation.tables import Rows
from modpo_hpc.seeds import rng_of
from modpo_hpc.study.evaluation import Statistics

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JudgedPhase:
    """The ballots of a phase and what follows from them.

    ``votes`` and ``cast`` are criteria x pairs x questions x personas, ``outcomes`` (the majorities) without the
    last axis (of a panel: judges x personas). ``errors`` (draws x 2 x criteria x pairs) are the drawn errors of the
    shares of questions won by A and by B, from which all intervals of rates and ranks are taken. ``lengths`` are the
    tokens of each answer, policies x questions, and ``demographics`` is persona -> attribute -> group.
    """

    ballots: Ballots
    settings: Statistics
    seed: int
    votes: NDArray[np.int8]
    cast: NDArray[np.bool_]
    outcomes: NDArray[np.int8]
    wins: winrates.Wins
    errors: Array
    lengths: Array
    demographics: Mapping[str, Mapping[str, Any]]

    def cell_rows(self, **columns: ArrayLike) -> Rows:
        """A row for each criterion and pair, from ``columns`` of criteria x pairs, or of one value for all."""
        values = {name: np.broadcast_to(column, self.wins.ties.shape) for name, column in columns.items()}
        return [
            {**key, **{name: one[c, p].item() for name, one in values.items()}} for c, p, key in self.ballots.cells()
        ]

    def intervals(self, estimate: Array, errors: Array, **options: Any) -> inference.Interval:
        """:func:`inference.intervals` with the study's confidence over the questions of the phase."""
        return inference.intervals(estimate, errors, self.settings.confidence, self.wins.questions, **options)

    def average(self) -> Array:
        """Average win rate over the opponents, criteria x policies; an anchor wins half from itself."""
        anchors = self.ballots.anchors
        own = [0.5 / len(anchors) if name in anchors else 0.0 for name in self.ballots.policies]
        return np.round(self._averaged(*self.wins.rates(self.settings.ties)) + own, 12)

    def rate_errors(self) -> tuple[Array, Array]:
        """Errors of the win rates of A and B (draws x criteria x pairs) under the study's rule for ties."""
        a, b = self.errors[:, 0], self.errors[:, 1]
        return (a, b) if self.settings.ties == "none" else ((a - b) / 2, (b - a) / 2)

    def average_errors(self) -> Array:
        """Errors of ``average`` (draws x criteria x policies)."""
        return self._averaged(*self.rate_errors())

    def _averaged(self, a: Array, b: Array) -> Array:
        policies, anchors = self.ballots.policies, self.ballots.anchors
        places = [policies.index(name) for name in anchors]
        return winrates.average_rates(a, b, len(policies), self.ballots.places, places)


def prepare(
    ballots: Ballots,
    settings: Statistics,
    seed: int,
    lengths: Array,
    demographics: Mapping[str, Mapping[str, Any]],
) -> JudgedPhase:
    """A phase from its ballots; ``lengths`` as :func:`answer_lengths` gives them."""
    votes = ballots.votes
    outcomes = winrates.majorities(votes)
    rng = rng_of(seed, "statistics", ballots.phase)
    judges = max(1, len(ballots.judges))
    drawn = [inference.majority_errors(one, settings.draws, rng, judges, ballots.places) for one in votes]
    errors = np.stack(drawn, axis=2)
    wins = winrates.count_wins(outcomes)
    return JudgedPhase(ballots, settings, seed, votes, ballots.cast, outcomes, wins, errors, lengths, demographics)


def answer_lengths(answers: pa.Table, policies: Sequence[str], questions: Sequence[str]) -> Array:
    """Tokens of the answers (policies x questions) from the table of answers; NaN where there is none."""
    tokens = answers.to_pandas().pivot(index="policy", columns="question_id", values="tokens")
    return tokens.reindex(index=list(policies), columns=list(questions)).to_numpy(dtype=float)
