"""Policies that no other beats in every criterion at once, and how much of the space they reach."""

from __future__ import annotations

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
    """Volume between ``reference`` (criteria) and the points (points x criteria) above it, by slicing dimensions.

    The measure of Zitzler and Thiele (1999), exact for any number of criteria; meant for tens of points.
    """
    corner = np.asarray(reference, dtype=float)
    points = np.asarray(values, dtype=float).reshape(-1, corner.size) - corner
    return _volume(points[(points > 0).all(axis=1)])


def _volume(points: NDArray[np.float64]) -> float:
    if len(points) == 0:
        return 0.0
    if points.shape[1] == 1:
        return float(points.max())
    order = points[np.argsort(-points[:, -1], kind="stable")]
    total = 0.0
    for place, height in enumerate(order[:, -1]):
        below = order[place + 1, -1] if place + 1 < len(order) else 0.0
        if height > below:
            total += (height - below) * _volume(order[: place + 1, :-1])
    return total
