"""From the pool to the study's personas: stratified, without needless repetition, divided into training and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modpo_hpc.errors import InputError
from modpo_hpc.personas.answers import NOT_STATED
from modpo_hpc.personas.quota import Cell, allocate, draw_places, places_of, proportional
from modpo_hpc.personas.survey import Participant

ATTRIBUTES = ("population", "gender", "primary ethnicity", "age group", "primary preference")


@dataclass(frozen=True)
class Selection:
    """Places in the pool of the training and the test personas, ascending, and every constraint not met, with why."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    reasons: tuple[str, ...]


def select(
    pool: Sequence[Participant],
    texts: Sequence[str],
    scores: Sequence[float],
    train: int,
    test: int,
    quota: Mapping[str, int],
    rarest_in_test: int,
    rng: np.random.Generator,
) -> Selection:
    """Choose ``train + test`` of ``pool`` and divide them.

    First each cell of ``ATTRIBUTES`` gets its quota: in proportion, with the populations met exactly and the rarest
    groups kept; where the proportions leave a choice, cells of people unlike the rest of the pool come first. A cell
    with more people than its quota is thinned to those whose texts differ most from one another and from all chosen
    before. The test set is then drawn by the same attributes, with at least ``rarest_in_test`` of each gender and each
    primary ethnicity that was stated.

    Args:
        texts, scores: persona text and quality score of each person of ``pool``.
        quota: population -> personas chosen from it; in proportion to the pool if empty.

    Raises:
        InputError: too few people, or a quota that does not add up or names no population.
    """
    total = train + test
    wanted = _checked_quota(quota, Counter(one.population for one in pool), total)
    cells = [_cell(one) for one in pool]
    similarity = _similarity(texts)
    allocation = allocate(
        Counter(cells), ATTRIBUTES, wanted, _minimum(2 * rarest_in_test), rng, _commonness(cells, similarity)
    )
    chosen = _thin(cells, allocation.counts, similarity, scores)

    of_chosen = [cells[place] for place in chosen]
    sizes = Counter(pool[place].population for place in chosen)
    of_test = allocate(
        Counter(of_chosen),
        ATTRIBUTES,
        proportional(sizes, test),
        _minimum(rarest_in_test),
        rng,
    )
    in_test = {chosen[place] for place in draw_places(of_chosen, of_test.counts, rng)}
    return Selection(
        train=tuple(place for place in chosen if place not in in_test),
        test=tuple(sorted(in_test)),
        reasons=(
            *(f"selection, {reason}" for reason in allocation.reasons),
            *(f"test set, {reason}" for reason in of_test.reasons),
        ),
    )


def _cell(person: Participant) -> Cell:
    preference = person.primary_preference or NOT_STATED
    age_group = person.age_group or NOT_STATED
    return (person.population, person.gender_group, person.ethnicity_group, age_group, preference)


def _minimum(number: int) -> dict[str, int]:
    return {"gender": number, "primary ethnicity": number}


def _checked_quota(quota: Mapping[str, int], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    if not quota:
        return proportional(sizes, total)
    if unknown := sorted(quota.keys() - sizes.keys()):
        raise InputError(
            "this population has no usable participants",
            field="personas.quota",
            value=unknown[0],
            remedy=f"Populations are: {', '.join(sorted(sizes))}.",
        )
    if sum(quota.values()) != total:
        raise InputError(
            f"the quotas add up to {sum(quota.values())}, not to personas.select = {total}",
            field="personas.quota",
            remedy="Change the quotas or personas.select.",
        )
    return {name: quota.get(name, 0) for name in sizes}


def _similarity(texts: Sequence[str]) -> np.ndarray:
    """Cosine similarity of the texts by TF-IDF of words: float array [texts, texts]."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    return np.asarray((weights @ weights.T).todense())


def _commonness(cells: Sequence[Cell], similarity: np.ndarray) -> dict[Cell, float]:
    """How like the rest of the pool the people of each cell are: mean rank of their mean similarity, 0 to 1."""
    means = (similarity.sum(axis=1) - 1) / max(len(cells) - 1, 1)
    ranks = np.argsort(np.argsort(means, kind="stable"), kind="stable") / max(len(cells) - 1, 1)
    return {cell: float(ranks[places].mean()) for cell, places in places_of(cells).items()}


def _thin(
    cells: Sequence[Cell], quota: Mapping[Cell, int], similarity: np.ndarray, scores: Sequence[float]
) -> list[int]:
    """Places that fill the quota: in each cell the ones least like any chosen before (farthest-point selection).

    The smallest cells choose first, since they have least to choose from; the quality score breaks ties.
    """
    chosen: list[int] = []
    nearest = np.zeros(len(cells))
    for cell, left in sorted(places_of(cells).items(), key=lambda one: (len(one[1]) - quota[one[0]], one[0])):
        for _ in range(quota[cell]):
            best = min(left, key=lambda place: (round(float(nearest[place]), 9), -scores[place], place))
            left.remove(best)
            chosen.append(best)
            nearest = np.maximum(nearest, similarity[best])
    return sorted(chosen)
