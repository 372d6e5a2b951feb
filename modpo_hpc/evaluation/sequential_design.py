"""The design of sequential judging: the order of the questions, the personas of each, and what decides a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modpo_hpc.evaluation.betting import StoppingRule
from modpo_hpc.seeds import rng_of

if TYPE_CHECKING:
    from modpo_hpc.run import Run
    from modpo_hpc.study import Study


def level_of_a_pair(study: Study, phase: str) -> float:
    """The study's level over the pairs of the phase (Bonferroni), which are the family of McNemar's tests, too."""
    return study.statistics.alpha / len(study.judging.phases[phase].pairs)


def stopping_rule(study: Study, phase: str, questions: int) -> StoppingRule:
    """What decides a pair of ``phase`` under one criterion, of ``questions`` that can be asked."""
    sequential = study.judging.sequential
    return StoppingRule(level_of_a_pair(study, phase), questions, sequential.margin, sequential.futility)


@dataclass(frozen=True)
class PersonaGroups:
    """Groups of the personas among whom those of a question are drawn: of each persona its group, and their weights."""

    group: Mapping[str, int]
    weight: np.ndarray

    @classmethod
    def of(cls, groups: Sequence[Sequence[str]]) -> PersonaGroups:
        """From the personas of each group; a group weighs as many as it has."""
        sizes = np.array([len(members) for members in groups], dtype=float)
        places = {persona: number for number, members in enumerate(groups) for persona in members}
        return cls(places, sizes / sizes.sum())


def groups_of_personas(run: Run) -> list[list[str]]:
    """The test personas by population: the groups that every question of sequential judging hears."""
    groups: dict[str, list[str]] = {}
    for row in run.table("personas").to_pylist():
        if row["split"] == "test":
            groups.setdefault(row.get("population") or "", []).append(row["persona_id"])
    return list(groups.values())


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
    counts = np.clip(np.floor(wanted).astype(int), 1, sizes)
    while counts.sum() != per_question:
        add = counts.sum() < per_question
        may = counts < sizes if add else counts > 1
        lack = np.where(may, np.maximum((wanted - counts) * (1 if add else -1), 1e-9), 0.0)
        counts[rng.choice(len(counts), p=lack / lack.sum())] += 1 if add else -1
    chosen = (rng.choice(len(members), count, replace=False) for members, count in zip(groups, counts, strict=True))
    return {members[place] for members, places in zip(groups, chosen, strict=True) for place in places}
