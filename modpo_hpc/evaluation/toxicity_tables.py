"""The tables of toxicity: each policy by each backend, and every pair of policies on the same questions."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from modpo_hpc.evaluation.mcnemar import adjusted, mcnemar
from modpo_hpc.intervals import percentiles
from modpo_hpc.seeds import rng_of

OVERALL = ""
OF_POLICIES = "backend policy attribute answers assessed toxic toxic_share low high mean_score mean_low mean_high"
OF_PAIRS = (
    "backend policy_a policy_b questions only_a_toxic only_b_toxic p_mcnemar p_mcnemar_holm "
    "score_difference difference_low difference_high p_bootstrap"
)


def by_policy(
    assessments: pd.DataFrame, threshold: float, replicates: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Counts, shares and means of each backend and policy, and of each attribute that the backend scores.

    Shares have exact (Clopper-Pearson) intervals, means those of questions drawn again. ``attribute`` is empty in the
    row of the backend's own verdict. Answers that could not be assessed are in ``answers`` and not in ``assessed``.

    Args:
        assessments: rows of the stage's table.
    """
    rows = []
    for (backend, policy), part in assessments.groupby(["backend", "policy"], sort=False):
        assessed = part[part["state"] == "ok"]
        named = {OVERALL: (assessed["toxic"].astype(bool), assessed["score"].astype(float))}
        scored = [dict(one) for one in assessed["attributes"]]
        for name in dict.fromkeys(name for one in scored for name in one):
            score = pd.Series([one.get(name, np.nan) for one in scored], index=assessed.index, dtype=float)
            named[name] = (score > threshold, score)
        for attribute, (toxic, score) in named.items():
            count, size = int(toxic.sum()), len(toxic)
            low, high = binomtest(count, size).proportion_ci(confidence, method="exact") if size else (np.nan, np.nan)
            mean, mean_low, mean_high, _ = _mean(score.to_numpy(), replicates, confidence, seed, backend, attribute)
            rows.append(
                {
                    "backend": backend,
                    "policy": policy,
                    "attribute": attribute,
                    "answers": len(part),
                    "assessed": size,
                    "toxic": count,
                    "toxic_share": count / size if size else np.nan,
                    "low": float(low),
                    "high": float(high),
                    "mean_score": mean,
                    "mean_low": mean_low,
                    "mean_high": mean_high,
                }
            )
    return pd.DataFrame(rows, columns=OF_POLICIES.split())


def by_pair(assessments: pd.DataFrame, replicates: int, confidence: float, seed: int) -> pd.DataFrame:
    """Every pair of policies, compared on the questions that both were assessed on.

    Binary verdicts by the exact McNemar test, Holm-adjusted over the pairs of a backend; scores by their mean
    difference (A minus B), with the interval of questions drawn again, and twice the share of draws beyond zero as its
    p-value (Efron and Tibshirani 1993). Backends that give no scores leave those columns empty.
    """
    rows = []
    for backend, part in assessments[assessments["state"] == "ok"].groupby("backend", sort=False):
        policies = list(dict.fromkeys(part["policy"]))
        toxic = part.pivot(index="question_id", columns="policy", values="toxic")
        scores = part.pivot(index="question_id", columns="policy", values="score").astype(float)
        for a, b in combinations(policies, 2):
            both = toxic[[a, b]].dropna().astype(bool)
            only_a, only_b = int((both[a] & ~both[b]).sum()), int((both[b] & ~both[a]).sum())
            mean, low, high, p = _mean((scores[a] - scores[b]).to_numpy(), replicates, confidence, seed, backend, a, b)
            rows.append(
                {
                    "backend": backend,
                    "policy_a": a,
                    "policy_b": b,
                    "questions": len(both),
                    "only_a_toxic": only_a,
                    "only_b_toxic": only_b,
                    "p_mcnemar": mcnemar(only_a, only_b, "exact").pvalue,
                    "score_difference": mean,
                    "difference_low": low,
                    "difference_high": high,
                    "p_bootstrap": p,
                }
            )
    table = pd.DataFrame(rows, columns=OF_PAIRS.split())
    for _, family in table.groupby("backend", sort=False):
        table.loc[family.index, "p_mcnemar_holm"] = adjusted(family["p_mcnemar"].to_numpy(), "holm")
    return table


def _mean(
    values: np.ndarray, replicates: int, confidence: float, seed: int, *item: object
) -> tuple[float, float, float, float]:
    """The mean of those of ``values`` that are numbers, its interval, and the p-value of a mean of zero."""
    values = values[~np.isnan(values)]
    if not len(values):
        return (math.nan,) * 4
    again = rng_of(seed, "toxicity", *item).integers(0, len(values), (replicates, len(values)))
    draws = values[again].mean(axis=1)
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    p = min(1.0, 2 * (beyond + 1) / (replicates + 1)) if replicates else math.nan
    return float(values.mean()), *percentiles(draws, (1 - confidence) / 2), p
