"""What a policy trains on: pairs, responses, questions and scores joined into trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from modpo_hpc.alignment.trees import Tree
from modpo_hpc.seeds import seed_of

T = TypeVar("T")
Pair = tuple[int, int]


@dataclass(frozen=True)
class Example:
    """A question, some of its responses, and the pair that each criterion of a policy makes of them.

    Attributes:
        tree: prompt and responses, as token ids.
        response_ids: id of each response of the tree.
        pairs: for each criterion the places of the chosen and the rejected response in the tree; None where the
            criterion has no pair for this question.
        reference: log-prob of each response under the reference model.
        rewards: for each response its rewards under the margin criteria, on the study's scale.
        votes: for each response its votes under the criteria that the loss takes votes of; see ``material.votes_of``.
    """

    question_id: str
    tree: Tree
    response_ids: tuple[str, ...]
    pairs: tuple[Pair | None, ...]
    reference: tuple[float, ...] = ()
    rewards: tuple[tuple[float, ...], ...] = ()
    votes: tuple[tuple[float, ...], ...] = ()

    @property
    def anchor(self) -> Pair:
        """The pair of the first criterion. Raises ValueError: there is none."""
        if self.pairs[0] is None:
            raise ValueError(f"question {self.question_id} has no pair of the anchor")
        return self.pairs[0]

    def narrowed(self, places: Sequence[int]) -> Example:
        """The same with the responses at ``places`` only; a pair that loses a response is gone."""
        new = {old: place for place, old in enumerate(places)}

        def those(values: Sequence[T]) -> tuple[T, ...]:
            return tuple(values[place] for place in places) if values else ()

        return replace(
            self,
            tree=Tree(self.tree.prompt, those(self.tree.responses)),
            response_ids=those(self.response_ids),
            pairs=tuple((new[p[0]], new[p[1]]) if p and p[0] in new and p[1] in new else None for p in self.pairs),
            reference=those(self.reference),
            rewards=those(self.rewards),
            votes=those(self.votes),
        )

    def with_criteria(self, count: int) -> Example:
        """The same with the pairs of the first ``count`` criteria, and only the responses that they use."""
        pairs = self.pairs[:count]
        used = dict.fromkeys(place for pair in pairs if pair for place in pair)
        return replace(self, pairs=pairs).narrowed(tuple(used))

    def only_criterion(self, place: int) -> Example | None:
        """The same with the pair of one criterion alone; None if it has none."""
        pair = self.pairs[place]
        return replace(self, pairs=(pair,)).narrowed(pair) if pair else None

    def alone(self, place: int) -> Example:
        """The response at ``place`` alone; its pair names it twice."""
        return replace(self.narrowed((place,)), pairs=((0, 0),))


@dataclass(frozen=True)
class Dropped:
    """A question that a policy does not train on, and why."""

    question_id: str
    reason: str


def join_examples(
    criteria: Sequence[str],
    required: int,
    prompts: Mapping[str, tuple[int, ...]],
    responses: Mapping[str, Mapping[str, tuple[int, ...]]],
    pairs: Mapping[str, Mapping[str, tuple[str, str]]],
    rewards: Mapping[str, Mapping[str, float]],
    max_length: int,
    votes: Mapping[str, Mapping[str, float]] | None = None,
    all_responses: bool = False,
) -> tuple[list[Example], list[Dropped]]:
    """One example for each question, in the order of ``prompts``.

    Args:
        criteria: the policy's criteria, the anchor first.
        required: the first so many criteria must have a pair; the others are for evaluation.
        prompts: question id -> tokens of the prompt.
        responses: question id -> response id -> tokens with EOS.
        pairs: criterion -> question id -> (chosen, rejected) response ids.
        rewards: margin criterion -> response id -> reward; empty for methods without margins.
        max_length: tokens of prompt and response; a required pair that is longer drops its question.
        votes: criterion -> response id -> votes, 0 where it has none.
        all_responses: not the required pairs alone, every response must fit and hold something.
    """
    examples, dropped = [], []
    for question_id, prompt in prompts.items():
        of_question = responses[question_id]
        ids = tuple(of_question)
        place = {response_id: number for number, response_id in enumerate(ids)}
        found: list[Pair | None] = []
        reason = _unfit(prompt, of_question, ids, max_length) if all_responses else ""
        for number, criterion in enumerate(criteria):
            pair = pairs[criterion].get(question_id)
            unfit = _unfit(prompt, of_question, pair or (), max_length)
            if number < required and not reason:
                reason = f"no pair of {criterion}" if pair is None else unfit
            found.append((place[pair[0]], place[pair[1]]) if pair and not unfit else None)
        if reason:
            dropped.append(Dropped(question_id, reason))
            continue
        examples.append(
            Example(
                question_id=question_id,
                tree=Tree(prompt, tuple(of_question.values())),
                response_ids=ids,
                pairs=tuple(found),
                rewards=tuple(tuple(of[one] for of in rewards.values()) for one in ids) if rewards else (),
                votes=tuple(tuple(of.get(one, 0.0) for of in votes.values()) for one in ids) if votes else (),
            )
        )
    return examples, dropped


def _unfit(
    prompt: tuple[int, ...], responses: Mapping[str, tuple[int, ...]], ids: Sequence[str], max_length: int
) -> str:
    """Why ``ids`` cannot be trained on; empty where they can."""
    if too_long := [one for one in ids if len(prompt) + len(responses[one]) > max_length]:
        tokens = max(len(prompt) + len(responses[one]) for one in too_long)
        return f"{too_long[0]} has {tokens} tokens with its prompt, more than max_length {max_length}"
    return next((f"{one} is empty" for one in ids if len(responses[one]) < 2), "")


def split_by_question(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Training and held-out examples. The draw belongs to the question, so every policy holds out the same ones."""
    order = sorted(examples, key=lambda one: seed_of(seed, "held-out", one.question_id))
    held_out = {one.question_id for one in order[: round(share * len(order))]}
    return (
        [one for one in examples if one.question_id not in held_out],
        [one for one in examples if one.question_id in held_out],
    )
