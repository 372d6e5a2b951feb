"""Policies that no other beats in every criterion at once, and how much of the space they reach."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray


def dominators(values: ArrayLike, point: int) -> list[int]:
    """The points of ``values`` (points x criteria, higher is better) that are nowhere worse than ``point`` and
    better somewhere."""
    points = np.asarray(values, dtype=float)
    mine = points[point]
    return [int(other) for other in np.flatnonzero((points >= mine).all(axis=1) & (points > mine).any(axis=1))]


def front(values: ArrayLike) -> NDArray[np.bool_]:
    """Which points of ``values`` (points x criteria, higher is better) are dominated by none."""
    points = np.asarray(values, dtype=float)
    return np.array([not dominators(points, point) for point in range(len(points))], dtype=bool)


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """Volume between ``reference`` (criteria) and the points (points x criteria) above it (Zitzler and Thiele 1999)."""
    points, corner = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    if corner.size == 1:
        return float(max(points.max(initial=corner[0]) - corner[0], 0.0))
    return float(moocore.hypervolume(points.reshape(-1, corner.size), ref=corner, maximise=True))


def contributions(values: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """How much the hypervolume of ``values`` (points x criteria, two or more) shrinks without each of the points."""
    lost: NDArray[np.float64] = moocore.hv_contributions(values, ref=reference, maximise=True, ignore_dominated=False)
    return lost
