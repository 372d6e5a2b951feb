"""Who is in the pool, the selection, the training and the test set: counts, and tests of their balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2

GROUPS = ("pool", "selection", "train", "test")
CHARACTERISTICS = {
    "population": "population",
    "age_group": "age group",
    "gender": "gender",
    "primary_ethnicity": "primary ethnicity",
    "primary_preference": "primary preference",
}
PERMUTATIONS = 9_999


@dataclass(frozen=True)
class Balance:
    """Whether two sets differ in one characteristic.

    ``statistic`` is Pearson's chi-squared, ``p_value`` that of a permutation test (tables with small counts do not
    follow the chi-squared distribution, whose own p-value is ``p_asymptotic``). The effect sizes are Cramer's V
    (0 none, 0.1 small, 0.3 medium) and the largest standardized difference of a share.
    """

    statistic: float
    degrees: int
    p_value: float
    p_asymptotic: float
    cramers_v: float
    largest_difference: float


def composition(people: pd.DataFrame) -> pd.DataFrame:
    """How often each value of each characteristic occurs in each set (the tables of the paper's appendices A and B).

    Args:
        people: one row for everyone in the pool, with the columns of ``CHARACTERISTICS`` and ``state``
            (train, test, or anything else for those not chosen).

    Returns:
        Columns characteristic, value, and for each of ``GROUPS`` its count and share (``pool``, ``pool_share``, ...).
    """
    sets = sets_of(people)
    rows = []
    for column, label in CHARACTERISTICS.items():
        values = people[column].fillna("Not stated")
        for value in sorted(values.unique(), key=lambda one: (one == "Not stated", one)):
            row: dict[str, object] = {"characteristic": label, "value": value}
            for name, members in sets.items():
                count = int((values[members] == value).sum())
                row[name] = count
                row[f"{name}_share"] = count / int(members.sum()) if members.any() else float("nan")
            rows.append(row)
    return pd.DataFrame(rows)


def balance_tests(people: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Tests of the selection against those left out, and of training against test, for each characteristic.

    Returns:
        Columns comparison, characteristic, statistic, degrees, p_value, p_asymptotic, cramers_v, largest_difference.
    """
    sets = sets_of(people)
    comparisons = {
        "selection against those left out": (sets["selection"], ~sets["selection"]),
        "training against test": (sets["train"], sets["test"]),
    }
    rows = []
    for comparison, (left, right) in comparisons.items():
        if not (left.any() and right.any()):
            continue
        for column, label in CHARACTERISTICS.items():
            values = people[column].fillna("Not stated")
            tested = balance(values[left].tolist(), values[right].tolist(), rng)
            rows.append({"comparison": comparison, "characteristic": label, **vars(tested)})
    return pd.DataFrame(rows)


def balance(left: Sequence[str], right: Sequence[str], rng: np.random.Generator) -> Balance:
    """Whether ``left`` and ``right``, two samples of one characteristic, differ in its distribution."""
    values, codes = np.unique([*left, *right], return_inverse=True)
    sides = np.split(codes, [len(left)])
    observed = np.stack([np.bincount(side, minlength=len(values)) for side in sides], axis=1)
    degrees = len(values) - 1
    if degrees == 0:
        return Balance(0.0, 0, 1.0, 1.0, 0.0, 0.0)
    statistic = float(_chi_squared(observed))
    # shuffling the people between the two sets gives tables with these margins, hypergeometrically distributed
    shuffled = rng.multivariate_hypergeometric(observed.sum(axis=1), len(left), size=PERMUTATIONS)
    tables = np.stack([shuffled, observed.sum(axis=1) - shuffled], axis=-1)
    beyond = int((_chi_squared(tables) >= statistic - 1e-9).sum())
    shares = observed / observed.sum(axis=0)
    spread = np.sqrt((shares * (1 - shares)).mean(axis=1))
    differences = np.abs(shares[:, 0] - shares[:, 1])
    return Balance(
        statistic=statistic,
        degrees=degrees,
        p_value=(beyond + 1) / (PERMUTATIONS + 1),
        p_asymptotic=float(chi2.sf(statistic, degrees)),
        cramers_v=float(np.sqrt(statistic / observed.sum())),
        largest_difference=float(np.max(np.divide(differences, spread, out=np.zeros_like(spread), where=spread > 0))),
    )


def importance_means(people: pd.DataFrame, criteria: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation of every importance rating in each set, and how many people gave it."""
    rows = []
    for name, members in sets_of(people).items():
        for criterion in criteria:
            rated = people.loc[members, f"importance_{criterion}"].dropna().astype(float)
            rows.append(
                {"set": name, "criterion": criterion, "n": len(rated), "mean": rated.mean(), "sd": rated.std(ddof=1)}
            )
    return pd.DataFrame(rows)


def sets_of(people: pd.DataFrame) -> Mapping[str, pd.Series]:
    """Membership of each of ``GROUPS``: boolean series over the rows of ``people``."""
    train, test = people["state"] == "train", people["state"] == "test"
    return {"pool": pd.Series(True, index=people.index), "selection": train | test, "train": train, "test": test}


def _chi_squared(tables: np.ndarray) -> np.ndarray:
    """Pearson's statistic of each table (..., values, 2)."""
    rows, columns = tables.sum(axis=-1, keepdims=True), tables.sum(axis=-2, keepdims=True)
    expected = rows * columns / columns.sum(axis=-1, keepdims=True)
    return ((tables - expected) ** 2 / expected).sum(axis=(-2, -1))
