"""How many of each kind of person are taken: whole numbers that keep the proportions of every group at once.

The kinds are cells of one attribute each (population, age group, gender, primary ethnicity). Rounding each cell by
itself would miss the totals, so all are chosen together: a small integer programme whose hard constraints are
the size of every population, whose soft ones are the proportions of every group, and which says where it had to give
way (controlled rounding; Cox 1987, J. Am. Stat. Assoc. 82:520).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from modpo_hpc.errors import InputError
from modpo_hpc.personas.answers import NOT_STATED

Cell = tuple[str, ...]
_PENALTY_PROPORTION, _PENALTY_MINIMUM = 20.0, 400.0
_WEIGHT_OF_CHOICE = 0.05


@dataclass(frozen=True)
class QuotaAllocation:
    """How many of each cell are taken, and in words every constraint that could not be met, with the reason."""

    counts: Mapping[Cell, int]
    reasons: tuple[str, ...]


def proportional(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """``total`` divided in proportion to ``counts`` by largest remainders, never more than there are.

    Raises:
        InputError: there are fewer than ``total``.
    """
    available = sum(counts.values())
    if total > available:
        raise InputError(
            f"{total} personas are wanted, but only {available} are there",
            field="personas",
            remedy="Ask for fewer, lower personas.quality_floor, or add surveys.",
        )
    shares = {name: count * total / available for name, count in counts.items()}
    whole = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (whole[name] - shares[name], -counts[name], name))
    for name in by_remainder[: total - sum(whole.values())]:
        whole[name] += 1
    return whole


def allocate(
    counts: Mapping[Cell, int],
    attributes: Sequence[str],
    quota: Mapping[str, int],
    minimum: Mapping[str, int],
    rng: np.random.Generator,
    last_choice: Mapping[Cell, float] | None = None,
) -> QuotaAllocation:
    """How many of every cell of ``counts`` are taken.

    Args:
        counts: people in each cell; a cell holds one value for each of ``attributes``, the population first.
        quota: how many of each population, met exactly.
        minimum: attribute -> how many of each of its groups are taken at least, as far as it has people.
        last_choice: from 0 to 1 for each cell, the higher the later it is taken where the proportions leave a choice.
        rng: settles what is open after that.

    Raises:
        InputError: a population has fewer people than its quota.
    """
    cells = sorted(counts)
    size, total = len(cells), sum(quota.values())
    people = np.array([counts[cell] for cell in cells], dtype=float)
    populations = {name: sum(counts[cell] for cell in cells if cell[0] == name) for name in quota}
    for name, wanted in quota.items():
        if wanted > populations[name]:
            raise InputError(
                f"population {name!r} has {populations[name]} people who can be taken, but {wanted} are wanted",
                field="personas.quota",
                remedy="Lower its quota, lower personas.quality_floor, or add answers to its survey.",
            )
    share = people * np.array([quota[cell[0]] / populations[cell[0]] for cell in cells])

    soft = _soft_constraints(cells, attributes, share, minimum, total)
    # variables: how many of each cell, distance of each from its share, slack of each soft constraint
    width = 2 * size + len(soft)
    preference = rng.random(size) * 1e-3
    if last_choice is not None:
        preference += np.array([last_choice[cell] for cell in cells]) * _WEIGHT_OF_CHOICE
    cost = np.concatenate([preference, np.ones(size), [one.penalty for one in soft]])
    in_population = np.array([[cell[0] == name for cell in cells] for name in quota], dtype=float)
    in_group = np.array([one.members for one in soft]).reshape(len(soft), size)
    sizes = list(quota.values())
    least, most = [one.low for one in soft], [one.high for one in soft]
    each, slack = np.eye(size), np.eye(len(soft))
    nothing, unrelated = np.zeros((size, len(soft))), np.zeros((len(soft), size))
    constraints = [
        LinearConstraint(np.hstack([in_population, np.zeros((len(quota), width - size))]), sizes, sizes),
        LinearConstraint(np.hstack([each, -each, nothing]), -np.inf, share),
        LinearConstraint(np.hstack([-each, -each, nothing]), -np.inf, -share),
        LinearConstraint(np.hstack([in_group, unrelated, slack]), least, np.inf),
        LinearConstraint(np.hstack([in_group, unrelated, -slack]), -np.inf, most),
    ]
    integral = np.concatenate([np.ones(size), np.zeros(width - size)])
    bounds = Bounds(np.zeros(width), np.concatenate([people, np.full(width - size, np.inf)]))
    # HiGHS's presolve gives up on some small problems that have a solution; without it they are solved
    for presolve in (True, False):
        outcome = milp(
            cost,
            integrality=integral,
            bounds=bounds,
            constraints=constraints,
            options={"mip_rel_gap": 0.0, "presolve": presolve},
        )
        if outcome.x is not None:
            break
    else:
        raise RuntimeError(f"the quota could not be allocated: {outcome.message}")
    taken = np.round(outcome.x[:size]).astype(int)
    reasons = (_reason(one, int(one.members @ taken), int(one.members @ people)) for one in soft)
    return QuotaAllocation(dict(zip(cells, taken.tolist(), strict=True)), tuple(filter(None, reasons)))


def places_of(cells: Sequence[Cell]) -> dict[Cell, list[int]]:
    """Where each cell occurs in ``cells``, ascending."""
    places: dict[Cell, list[int]] = {}
    for place, cell in enumerate(cells):
        places.setdefault(cell, []).append(place)
    return places


def draw_places(cells: Sequence[Cell], counts: Mapping[Cell, int], rng: np.random.Generator) -> list[int]:
    """Places in ``cells`` drawn at random, of every cell as many as ``counts`` says."""
    places = places_of(cells)
    return [place for cell in sorted(counts) for place in rng.permutation(places[cell])[: counts[cell]]]


@dataclass(frozen=True)
class _Soft:
    attribute: str
    group: str
    members: np.ndarray
    low: float
    high: float
    penalty: float


def _soft_constraints(
    cells: Sequence[Cell],
    attributes: Sequence[str],
    share: np.ndarray,
    minimum: Mapping[str, int],
    total: int,
) -> list[_Soft]:
    soft = []
    for place, attribute in enumerate(attributes[1:], start=1):
        for group in sorted({cell[place] for cell in cells}):
            members = np.array([cell[place] == group for cell in cells], dtype=float)
            expected = float(members @ share)
            low, high = np.floor(expected + 1e-9), np.ceil(expected - 1e-9)
            least = 0 if group == NOT_STATED else min(minimum.get(attribute, 0), total)
            penalty = _PENALTY_MINIMUM if least > low else _PENALTY_PROPORTION
            soft.append(_Soft(attribute, group, members, max(low, least), max(high, least), penalty))
    return soft


def _reason(one: _Soft, taken: int, there: int) -> str:
    """Why ``taken`` of the ``there`` who are in the group miss what was wanted; empty if they do not."""
    if one.low <= taken <= one.high:
        return ""
    if taken > one.high:
        wanted, why = f"at most {one.high:.0f}", "other groups are used up"
    else:
        wanted, why = f"at least {one.low:.0f}", "other groups and the size of the populations leave no more room"
        if there <= taken:
            why = f"there are only {there}"
    return f"{one.attribute} {one.group!r}: {taken} taken, {wanted} wanted; {why}"
