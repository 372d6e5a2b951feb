"""What all tables of one phase are made from, worked out once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modpo_hpc.evaluation import bootstrap, winrates
from modpo_hpc.evaluation.ballots import Ballots
from modpo_hpc.study.evaluation import Statistics

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Phase:
    """The ballots of a phase and what follows from them.

    ``votes`` and ``cast`` are criteria x pairs x questions x personas, ``outcomes`` (the majorities) without the
    last axis (of a panel: judges x personas). ``lengths`` are the tokens of each answer, policies x questions, and
    ``demographics`` is persona -> attribute -> group.
    """

    ballots: Ballots
    settings: Statistics
    seed: int
    votes: NDArray[np.int8]
    cast: NDArray[np.bool_]
    outcomes: NDArray[np.int8]
    wins: winrates.Wins
    replicates: bootstrap.Replicates
    lengths: Array
    demographics: Mapping[str, Mapping[str, Any]]

    def cells(self) -> Iterator[tuple[int, int, dict[str, str]]]:
        """Each criterion and pair with its places in the arrays and its key columns."""
        for c, criterion in enumerate(self.ballots.criteria):
            for p, (a, b) in enumerate(self.ballots.pairs):
                yield c, p, {"phase": self.ballots.phase, "criterion": criterion, "policy_a": a, "policy_b": b}

    def average(self) -> Array:
        """Average win rate over the opponents, criteria x policies."""
        return winrates.average_rates(*self.wins.rates(self.settings.ties), len(self.ballots.policies))

    def replicate_rates(self) -> tuple[Array, Array]:
        """Win rates of A and B (replicates x criteria x pairs) under the study's rule for ties."""
        drawn = self.replicates
        if self.settings.ties == "none":
            return drawn.a, drawn.b
        half = (1 - drawn.a - drawn.b) / 2
        return drawn.a + half, drawn.b + half


def prepare(
    ballots: Ballots,
    settings: Statistics,
    seed: int,
    lengths: Array,
    demographics: Mapping[str, Mapping[str, Any]],
) -> Phase:
    """A phase from its ballots; ``lengths`` as :func:`answer_lengths` gives them."""
    votes = ballots.votes
    outcomes = winrates.majorities(votes)
    drawn = bootstrap.two_way(
        votes, settings.bootstrap, seed, "statistics", ballots.phase, judges=max(1, len(ballots.judges))
    )
    wins = winrates.count_wins(outcomes)
    return Phase(ballots, settings, seed, votes, ballots.cast, outcomes, wins, drawn, lengths, demographics)


def answer_lengths(answers: pa.Table, policies: Sequence[str], questions: Sequence[str]) -> Array:
    """Tokens of the answers (policies x questions) from the table of answers; NaN where there is none."""
    row = {name: place for place, name in enumerate(policies)}
    column = {name: place for place, name in enumerate(questions)}
    lengths = np.full((len(policies), len(questions)), np.nan)
    columns = (answers.column(name).to_pylist() for name in ("policy", "question_id", "tokens"))
    for policy, question, tokens in zip(*columns, strict=True):
        if policy in row and question in column:
            lengths[row[policy], column[question]] = tokens
    return lengths
