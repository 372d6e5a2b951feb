"""Who judges what, and in which order it is shown: pure functions of the seed and of ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modpo_hpc.seeds import rng_of


def assign_personas(
    question_ids: Sequence[str], persona_ids: Sequence[str], per_question: int, seed: int
) -> dict[str, tuple[str, ...]]:
    """For each question, ``per_question`` different personas, in the order of ``persona_ids``.

    Every persona gets the same number of questions, up to one. Questions are served in a random order, each by the
    personas that have had the fewest so far, at random among equals.

    Raises:
        ValueError: more personas a question than there are.
    """
    if per_question > len(persona_ids):
        raise ValueError(f"{per_question} personas a question, but there are only {len(persona_ids)}")
    rng = rng_of(seed, "assign_personas")
    load = np.zeros(len(persona_ids), dtype=np.int64)
    chosen: dict[str, tuple[str, ...]] = {}
    for index in rng.permutation(len(question_ids)):
        fewest_first = np.lexsort((rng.random(len(persona_ids)), load))[:per_question]
        load[fewest_first] += 1
        chosen[question_ids[index]] = tuple(persona_ids[position] for position in np.sort(fewest_first))
    return {question_id: chosen[question_id] for question_id in question_ids}


def response_order(question_id: str, persona_id: str, responses: int, seed: int) -> tuple[int, ...]:
    """The order in which a persona sees the responses to a question: a random permutation of their positions."""
    return tuple(rng_of(seed, "response_order", question_id, persona_id).permutation(responses).tolist())


def first_shown(question_id: str, policy_a: str, policy_b: str, personas: int, seed: int) -> np.ndarray:
    """Whether each persona sees policy A first, bool of shape (personas,): exactly half of them do.

    Which half is drawn anew for each question and pair; of an odd number, the odd one falls to either side.
    """
    rng = rng_of(seed, "first_shown", question_id, policy_a, policy_b)
    half = personas // 2 + (int(rng.integers(2)) if personas % 2 else 0)
    return rng.permutation(personas) < half


def question_order(question_ids: Sequence[str], seed: int) -> list[str]:
    """The order in which questions are judged where that may stop early: random, and the same for every pair."""
    return [question_ids[place] for place in rng_of(seed, "question_order").permutation(len(question_ids))]


def drawn_personas(question_id: str, groups: Sequence[Sequence[str]], per_question: int, seed: int) -> set[str]:
    """``per_question`` of the personas of ``groups``, drawn for this question alone.

    Each group gives its share of them, the fractions by lot, and at least one.

    Raises:
        ValueError: more personas than there are, or fewer than groups.
    """
    sizes = np.array([len(members) for members in groups])
    if not len(groups) <= per_question <= sizes.sum():
        raise ValueError(f"{per_question} personas a question of {len(groups)} groups with {sizes.sum()} personas")
    rng = rng_of(seed, "drawn_personas", question_id)
    wanted = per_question * sizes / sizes.sum()
    seats = np.clip(np.floor(wanted).astype(int), 1, sizes)
    while seats.sum() != per_question:
        add = seats.sum() < per_question
        may = seats < sizes if add else seats > 1
        lack = np.where(may, np.maximum((wanted - seats) * (1 if add else -1), 1e-9), 0.0)
        seats[rng.choice(len(seats), p=lack / lack.sum())] += 1 if add else -1
    chosen = (rng.choice(len(members), count, replace=False) for members, count in zip(groups, seats, strict=True))
    return {members[place] for members, places in zip(groups, chosen, strict=True) for place in places}
