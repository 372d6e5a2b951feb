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
