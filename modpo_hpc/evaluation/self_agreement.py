"""How far a judge says the same when the same is asked again, and what the order of showing changes beyond that.

The comparisons are a sample of those that were judged, and so are their questions and personas: errors are clustered
by both (Cameron, Gelbach and Miller 2011). A comparison counts by the answers to it that could be read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from modpo_hpc.evaluation.tables import Rows
from modpo_hpc.intervals import wilson_interval

Array = NDArray[np.float64]
CELL = ["judge", "phase", "criterion"]
PAIR = ["policy_a", "policy_b"]
_COMPARISON = ["question_id", "persona_id", *PAIR]
_LABELS = {"A": 0, "B": 1, "tie": 2}
_SCORES = np.array([1.0, 0.0, 0.5])


@dataclass(frozen=True)
class Answers:
    """Answers to comparisons under one criterion: how many were for policy A, for B, and called the two equal.

    ``same`` and ``swapped`` are comparisons x 3, of answers in the first order of showing and in the other;
    ``a_first``: whether A was shown first in the first order. ``questions`` and ``personas`` are numbered.
    """

    same: Array
    swapped: Array
    a_first: NDArray[np.bool_]
    questions: NDArray[np.int64]
    personas: NDArray[np.int64]

    def __getitem__(self, where: NDArray[np.bool_]) -> Answers:
        return Answers(*(getattr(self, name)[where] for name in self.__dataclass_fields__))


def self_agreement(answers: Answers, votes: float, confidence: float = 0.95) -> dict[str, Any]:
    """The columns of the tables ``self_agreement`` of ``answers``; NaN where there is nothing to compare.

    ``flips``: how often two answers to the same differ. ``kappa``: agreement beyond chance as Fleiss (1971) has it,
    of what is said of the answer shown first, the other, or both; its interval is that of the flips, at this chance.
    ``order_flips``: how often two answers in different orders differ about the policies; ``excess``: by how much
    more. ``noise``: standard deviation of the share of ``votes`` that policy A wins if all are asked again.
    """
    count = answers.same.sum(axis=1)
    kept = answers[count >= 2]
    n, other = kept.same.sum(axis=1), kept.swapped.sum(axis=1)
    flips = 1 - (kept.same * (kept.same - 1)).sum(axis=1) / (n * (n - 1))
    seen = np.where(kept.a_first[:, None], kept.same, kept.same[:, [1, 0, 2]])
    chance = float(((seen / n[:, None]).mean(axis=0) ** 2).sum()) if len(n) else math.nan
    means = (kept.same @ _SCORES) / n
    variance = ((kept.same @ _SCORES**2) / n - means**2) * n / (n - 1)
    turned = other > 0
    order = 1 - (kept.same[turned] / n[turned, None] * kept.swapped[turned] / other[turned, None]).sum(axis=1)
    low, high = share_interval(flips, kept, confidence)
    order_low, order_high = share_interval(order, kept[turned], confidence)
    more = order - flips[turned]
    reach = norm.ppf(0.5 + confidence / 2) * clustered_error(more, kept[turned])
    rate, excess = _mean(flips), _mean(more)
    return {
        "comparisons": len(n),
        "flips": rate,
        "flips_low": low,
        "flips_high": high,
        "kappa": _kappa(rate, chance),
        "kappa_low": _kappa(high, chance),
        "kappa_high": _kappa(low, chance),
        "order_flips": _mean(order),
        "order_low": order_low,
        "order_high": order_high,
        "excess": excess,
        "excess_low": excess - reach,
        "excess_high": excess + reach,
        "noise": math.sqrt(_mean(variance) / votes) if len(n) and votes else math.nan,
    }


def share_interval(values: Array, answers: Answers, confidence: float) -> tuple[float, float]:
    """Wilson's interval of the mean of ``values`` between 0 and 1, for as many trials as its error is worth."""
    if not len(values):
        return math.nan, math.nan
    mean, error = _mean(values), clustered_error(values, answers)
    worth = mean * (1 - mean) / error**2 if error > 0 else math.inf
    trials = max(1.0, min(float(len(values)), worth))
    return wilson_interval(mean * trials, trials, confidence)


def clustered_error(values: Array, answers: Answers) -> float:
    """Standard error of the mean of ``values``, one a comparison, with other questions and other personas."""
    count = len(values)
    if count < 2:
        return math.nan
    rest = values - values.mean()
    cells = np.unique(np.stack([answers.questions, answers.personas]), axis=1, return_inverse=True)[1].reshape(-1)
    of_questions, of_personas, of_cells = (_spread(rest, one) for one in (answers.questions, answers.personas, cells))
    variance = max(of_questions + of_personas - of_cells, of_questions, of_personas)
    return math.sqrt(variance) / count


def _spread(rest: Array, groups: NDArray[np.int64]) -> float:
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], weights=rest)
    return float((sums**2).sum()) * len(sums) / max(1, len(sums) - 1)


def _kappa(flips: float, chance: float) -> float:
    return math.nan if chance != chance or math.isclose(chance, 1.0, abs_tol=1e-12) else 1 - flips / (1 - chance)


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan


def rows_of(repeats: pd.DataFrame, votes: Mapping[tuple[str, ...], float], confidence: float) -> tuple[Rows, Rows]:
    """Rows of each judge, phase and criterion, and the same of each pair of policies.

    Args:
        repeats: the table ``repeats`` with the column ``judge``.
        votes: verdicts that each judge, phase, criterion, policy A and policy B has.
    """
    whole, of_pairs = Rows(), Rows()
    for key, mine in repeats.groupby(CELL, sort=False, observed=True):
        heads = dict(zip(CELL, key, strict=True))
        pairs = list(mine.groupby(PAIR, sort=False, observed=True))
        counts = [votes[(*map(str, key), *map(str, pair))] for pair, _ in pairs]
        whole.append({**heads, **_row(mine, float(np.mean(counts)), confidence)})
        for (pair, part), count in zip(pairs, counts, strict=True):
            of_pairs.append({**heads, **dict(zip(PAIR, pair, strict=True)), **_row(part, count, confidence)})
    return whole, of_pairs


def _row(mine: pd.DataFrame, votes: float, confidence: float) -> dict[str, Any]:
    counted = {"answers": len(mine), "unparsed": int((mine["winner"] == "unparsed").sum())}
    return {**counted, **self_agreement(answers_of(mine), votes, confidence)}


def answers_of(mine: pd.DataFrame) -> Answers:
    """The answers of one judge under one criterion, from rows of the table ``repeats``."""
    plain = mine.astype({name: str for name in (*_COMPARISON, "winner", "first")})
    comparison = plain.groupby(_COMPARISON, sort=False).ngroup().to_numpy()
    _, first_rows = np.unique(comparison, return_index=True)
    label = plain["winner"].map(_LABELS)
    read, turned = label.notna().to_numpy(), plain["swapped"].to_numpy(dtype=bool)
    counts = np.zeros((2, len(first_rows), 3))
    places = label.to_numpy(dtype=float, na_value=-1.0).astype(np.int64)
    np.add.at(counts, (turned[read].astype(np.int64), comparison[read], places[read]), 1)
    one = plain.iloc[first_rows]
    a_first = (one["first"] == "A").to_numpy() ^ one["swapped"].to_numpy(dtype=bool)
    questions, personas = (pd.factorize(one[name])[0].astype(np.int64) for name in ("question_id", "persona_id"))
    return Answers(counts[0], counts[1], a_first, questions, personas)
