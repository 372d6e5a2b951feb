"""Which questions a model must not see: the held-out share of the search, and the folds."""

from __future__ import annotations

from collections.abc import Iterable

from modpo_hpc.seeds import seed_of


def first_share(question_ids: Iterable[str], share: float, seed: int) -> set[str]:
    """``share`` of the questions, one at least, by the hash of each id; a larger share holds every smaller one."""
    shuffled = _shuffled(question_ids, seed)
    return set(shuffled[: max(1, round(share * len(shuffled)))])


def fold_of_question(question_ids: Iterable[str], folds: int, seed: int) -> dict[str, int]:
    """Question -> fold; the folds' sizes differ by one at most."""
    return {question_id: place % folds for place, question_id in enumerate(_shuffled(question_ids, seed))}


def _shuffled(question_ids: Iterable[str], seed: int) -> list[str]:
    return sorted(set(question_ids), key=lambda question_id: (seed_of(seed, question_id), question_id))
