"""The tables of the reward models and the examples that they learn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from modpo_hpc.data.questions import study_questions
from modpo_hpc.run import Run


def _columns(kind: pa.DataType, names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, kind) for name in names.split()]


TRIALS = pa.schema(
    [
        ("criterion", pa.string()),
        ("trial", pa.int32()),
        ("state", pa.string()),
        *_columns(pa.float64(), "accuracy accuracy_low accuracy_high loss"),
        *_columns(pa.int32(), "pairs best_epoch learned_from"),
        ("seed", pa.int64()),
        *_columns(pa.float64(), "learning_rate weight_decay dropout"),
        *_columns(pa.int32(), "batch_size max_length epochs cut_responses"),
        *_columns(pa.list_(pa.float64()), "accuracies losses training_losses"),
    ]
)
"""``state``: complete or pruned. ``accuracy``, ``loss``: on the held-out pairs after ``best_epoch`` (from 1), with the
95% interval of the accuracy. ``accuracies``, ``losses``, ``training_losses``: after each epoch that was run."""

PREDICTIONS = pa.schema(
    [
        *_columns(pa.string(), "criterion part"),
        ("fold", pa.int32()),
        ("seen", pa.bool_()),
        *_columns(pa.string(), "question_id chosen rejected"),
        ("margin", pa.int32()),
        *_columns(pa.float64(), "reward_chosen reward_rejected"),
    ]
)
"""Raw rewards of pairs by the model ``part``. ``seen``: it was trained on them. ``fold``: that of the question."""

_REWARDS = _columns(pa.float64(), "reward reward_raw")
SCORES = pa.schema([*_columns(pa.string(), "question_id response_id criterion"), *_REWARDS])
"""``reward_raw``: by the model whose fold the question is in. ``reward``: the same on the study's scale."""

ANSWER_SCORES = pa.schema([*_columns(pa.string(), "policy question_id criterion"), *_REWARDS])
"""``reward_raw``: of a policy's answer to a test question, by the final model. ``reward``: on the study's scale."""


@dataclass(frozen=True)
class Comparison:
    """The responses to one question, and the votes that a criterion's rankings gave to them.

    ``responses`` holds at least two ids, from the most to the least votes; the first and the last are the pair.
    """

    question_id: str
    responses: tuple[str, ...]
    votes: tuple[int, ...]

    @property
    def margin(self) -> int:
        """Votes of the best response less those of the worst."""
        return self.votes[0] - self.votes[-1]

    def pair(self) -> Comparison:
        """The best and the worst response alone."""
        return Comparison(self.question_id, self.responses[:: len(self.responses) - 1], (self.votes[0], self.votes[-1]))


@dataclass(frozen=True)
class Texts:
    """What the ids of a run stand for."""

    questions: Mapping[str, str]
    responses: Mapping[str, str]
    responses_of: Mapping[str, tuple[str, ...]]


def read_texts(run: Run) -> Texts:
    """Training questions and their responses, in canonical order."""
    questions = {one.question_id: one.text for one in study_questions(run, "train")}
    table = run.table("responses", ["question_id", "response_id", "text"]).to_pylist()
    of: dict[str, list[str]] = {question_id: [] for question_id in questions}
    responses = {}
    for row in table:
        if row["question_id"] in of:
            of[row["question_id"]].append(row["response_id"])
            responses[row["response_id"]] = row["text"]
    return Texts(questions, responses, {question_id: tuple(ids) for question_id, ids in of.items()})


def read_pairs(run: Run, criterion: str) -> list[dict[str, Any]]:
    """The rows of the table ``pairs`` of ``criterion``."""
    columns = ["question_id", "chosen", "rejected", "responses", "votes", "margin"]
    return run.table("pairs", columns, [criterion]).to_pylist()


def comparisons_of(pairs: Iterable[Mapping[str, Any]]) -> list[Comparison]:
    """The comparisons of ``pairs`` in which one response got more votes than another; the pair stands at the ends."""
    found = []
    for row in pairs:
        if row["margin"] > 0:
            ends, vote_of = (row["chosen"], row["rejected"]), dict(zip(row["responses"], row["votes"], strict=True))
            between = sorted((one for one in vote_of if one not in ends), key=lambda one: -vote_of[one])
            ordered = (ends[0], *between, ends[1])
            found.append(Comparison(row["question_id"], ordered, tuple(vote_of[one] for one in ordered)))
    return found
