"""Agreement of raters beyond chance, for nominal categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from modpo_hpc.errors import InputError

Ratings = Sequence[Sequence[Any]] | NDArray[Any]


def fleiss_kappa(table: ArrayLike) -> float:
    """Fleiss' kappa (1971) of ``table`` (items x categories): how many raters put each item into each category.

    NaN where chance alone already agrees (all ratings in one category).

    Raises:
        InputError: no table of counts, fewer than two raters, or items with different numbers of raters.
    """
    counts = np.asarray(table, dtype=float)
    if counts.ndim != 2 or counts.size == 0 or not np.isfinite(counts).all() or (counts < 0).any():
        raise InputError(
            "this is no table of counts",
            field="table",
            remedy="Give items x categories, each a count of raters.",
        )
    raters = counts.sum(axis=1)
    if (raters != raters[0]).any() or raters[0] < 2:
        raise InputError(
            "Fleiss' kappa needs the same number of raters, two or more, for every item",
            field="table",
            value=f"{raters.min():g} to {raters.max():g} raters",
            remedy="Use krippendorff_alpha or gwet_ac1 where ratings are missing.",
        )
    count = raters[0]
    observed = float(((counts**2).sum(axis=1) - count).mean() / (count * (count - 1)))
    expected = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return _beyond_chance(observed, expected)


def cohen_kappa(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Cohen's kappa of two raters' labels for the same items. NaN where both used one and the same label only.

    Raises:
        InputError: the two lists have different lengths, are empty, or have missing labels.
    """
    if len(a) != len(b) or len(a) == 0:
        raise InputError(
            "the two raters did not label the same items",
            field="b",
            value=f"{len(a)} and {len(b)} labels",
            remedy="Give a label of each rater for each item.",
        )
    codes, categories = _codes([list(pair) for pair in zip(a, b, strict=True)])
    if (codes < 0).any():
        raise InputError("a label is missing", field="a, b", remedy="Leave out the item, or use krippendorff_alpha.")
    confusion = np.zeros((categories, categories))
    np.add.at(confusion, (codes[:, 0], codes[:, 1]), 1)
    confusion /= confusion.sum()
    return _beyond_chance(float(np.trace(confusion)), float(confusion.sum(axis=1) @ confusion.sum(axis=0)))


def gwet_ac1(ratings: Ratings, categories: int | None = None) -> float:
    """Gwet's AC1 (2008) of ``ratings`` (items x raters), None or NaN where a rater gave none.

    ``categories`` is the number of labels that could be given; those that occur, if empty. With a single label
    there is no disagreement to expect, and the result is 1.

    Raises:
        InputError: no item has two ratings.
    """
    counts = _label_counts(ratings)
    per_item = counts.sum(axis=1)
    rated, paired = counts[per_item >= 1], counts[per_item >= 2]
    count = paired.sum(axis=1)
    observed = float(((paired * (paired - 1)).sum(axis=1) / (count * (count - 1))).mean())
    labels = max(categories or 0, counts.shape[1])
    if labels == 1:
        return 1.0
    share = (rated / rated.sum(axis=1, keepdims=True)).mean(axis=0)
    return _beyond_chance(observed, float((share * (1 - share)).sum() / (labels - 1)))


def krippendorff_alpha(ratings: Ratings) -> float:
    """Krippendorff's alpha (nominal) of ``ratings`` (items x raters), None or NaN where a rater gave none.

    NaN where only one label occurs, for which alpha is not defined.

    Raises:
        InputError: no item has two ratings.
    """
    counts = _label_counts(ratings)
    counts = counts[counts.sum(axis=1) >= 2]
    per_item, per_label = counts.sum(axis=1), counts.sum(axis=0)
    total = per_item.sum()
    agreeing = float(((counts * (counts - 1)).sum(axis=1) / (per_item - 1)).sum() / total)
    expected = float((per_label * (per_label - 1)).sum() / (total * (total - 1)))
    return _beyond_chance(agreeing, expected)


def _beyond_chance(observed: float, expected: float) -> float:
    return math.nan if math.isclose(expected, 1.0, abs_tol=1e-12) else (observed - expected) / (1 - expected)


def _label_counts(ratings: Ratings) -> NDArray[np.float64]:
    codes, categories = _codes(ratings)
    counts = np.zeros((codes.shape[0], categories))
    item, rater = np.nonzero(codes >= 0)
    np.add.at(counts, (item, codes[item, rater]), 1)
    if not (counts.sum(axis=1) >= 2).any():
        raise InputError(
            "no item has ratings of two raters",
            field="ratings",
            remedy="Agreement needs at least one such item.",
        )
    return counts


def _codes(ratings: Ratings) -> tuple[NDArray[np.int64], int]:
    """Codes (items x raters) of the labels, -1 where missing, and the number of labels."""
    rows = [list(row) for row in ratings]
    if not rows or len({len(row) for row in rows}) != 1:
        raise InputError(
            "this is no table of items x raters",
            field="ratings",
            remedy="Give every item one place for each rater, None where it is missing.",
        )
    codes, labels = pd.factorize(np.array(rows, dtype=object).ravel())
    return codes.reshape(len(rows), -1), len(labels)
