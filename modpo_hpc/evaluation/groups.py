"""Who prefers what: shares of votes won with single personas and in demographic groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.evaluation.inference import PSEUDO, Array, question_errors, student_errors
from modpo_hpc.evaluation.winrates import Pairs, every_pair

ATTRIBUTES = ("population", "age_group", "gender", "primary_ethnicity")
NOT_STATED = "not stated"


@dataclass(frozen=True)
class PersonaShares:
    """Shares of their votes that the policies win with each persona.

    ``rate`` is policies x personas, NaN for a persona without a vote; ``error`` is its standard error, the questions
    being the sample; ``by_question`` (policies x questions x personas) has ``rate`` as its mean over the questions.
    """

    rate: Array
    error: Array
    by_question: Array


def persona_shares(
    votes: NDArray[np.int8],
    cast: NDArray[np.bool_],
    policies: int,
    half_ties: bool,
    judges: int = 1,
    pairs: Pairs | None = None,
) -> PersonaShares:
    """From ``votes`` (pairs x questions x personas; of a panel: judges x personas), all opponents together."""
    shape = (policies, votes.shape[1], votes.shape[2])
    won, compared = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for pair, (a, b) in enumerate(pairs or every_pair(policies)):
        tie = 0.5 * half_ties * (votes[pair] == 0)
        won[a] += np.where(cast[pair], (votes[pair] == 1) + tie, 0.0)
        won[b] += np.where(cast[pair], (votes[pair] == -1) + tie, 0.0)
        compared[a] += cast[pair]
        compared[b] += cast[pair]
    won, compared = (one.reshape(policies, shape[1], judges, -1).sum(axis=2) for one in (won, compared))
    total, questions = compared.sum(axis=1, dtype=float), votes.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = won.sum(axis=1, dtype=float) / total
        # a ratio: a question counts by the votes that were cast on it
        residual = questions * (won - rate[:, None] * compared) / total[:, None]
    pseudo = PSEUDO * ((1 - rate) ** 2 + rate**2)
    error = np.sqrt((residual**2).sum(axis=1) + pseudo) / (questions + 2 * PSEUDO)
    return PersonaShares(rate, error, rate[:, None] + residual)


def group_errors(
    shares: PersonaShares, members: Sequence[NDArray[np.bool_]], draws: int, rng: np.random.Generator
) -> Array:
    """Drawn errors (draws x groups x policies) of the mean share in each group of ``members``, which do not overlap.

    All groups answered the same questions, so the questions move them together; with other personas each moves by
    itself, as far as personas of one group differ (all groups together say how far).
    """
    policies, questions, _ = shares.by_question.shape
    means, covariance, freedom = [], np.zeros((policies, policies)), 0
    for member in members:
        mine = shares.by_question[..., member]
        means.append(mine.mean(axis=-1))
        spread = shares.rate[:, member] - shares.rate[:, member].mean(axis=1, keepdims=True)
        rest = mine - means[-1][..., None] - spread[:, None]
        flat = rest.reshape(policies, -1)
        covariance += spread @ spread.T - flat @ flat.T / (questions * (questions - 1))
        freedom += int(member.sum()) - 1
    by_questions = question_errors(np.concatenate(means), draws, rng).reshape(draws, len(members), policies)
    if not freedom:  # every persona is a group of its own: nothing says how far two of a group differ
        return np.full_like(by_questions, np.nan)
    by_personas = [
        student_errors(covariance / freedom, draws, rng, freedom) / np.sqrt(member.sum()) for member in members
    ]
    return by_questions + np.stack(by_personas, axis=1)


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
