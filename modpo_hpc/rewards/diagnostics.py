"""What a reviewer asks of reward models: do they read more than length, have they memorised, would more data help."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from modpo_hpc.intervals import wilson_interval
from modpo_hpc.rewards.accuracy import pair_quality
from modpo_hpc.rewards.calibration import fit_temperature, out_of_fold
from modpo_hpc.study.rewards import LOSSES

SURE_LOG_ODDS = 3.0


def length_shortcut(predictions: pd.DataFrame, length_of: Mapping[str, int], parts: int = 3) -> pd.DataFrame:
    """The model beside a judge that sees length alone, on unseen pairs, by how much the responses differ in length.

    The length-only judge prefers the longer response, or the shorter one if that did better in the other folds.

    Args:
        length_of: response -> length, in any unit.

    Returns:
        One row for all pairs of a criterion (part ``all``) and one a quantile of the absolute difference of lengths:
        criterion, part, difference (mean, in the unit of ``length_of``), pairs, model, length.
    """
    rows = []
    for criterion, pairs in out_of_fold(predictions).groupby("criterion", sort=False):
        longer = (pairs["chosen"].map(length_of) - pairs["rejected"].map(length_of)).to_numpy(dtype=np.float64)
        judged, fold = np.zeros(len(pairs)), pairs["fold"].to_numpy()
        for one in np.unique(fold):
            judged[fold == one] = longer[fold == one] * (1.0 if np.sign(longer[fold != one]).sum() >= 0 else -1.0)
        order = np.argsort(np.abs(longer), kind="stable")
        groups = {"all": order, **{str(at + 1): part for at, part in enumerate(np.array_split(order, parts))}}
        difference = pairs["difference"].to_numpy()
        rows += [
            {
                "criterion": criterion,
                "part": name,
                "difference": float(np.abs(longer[group]).mean()),
                "pairs": len(group),
                "model": pair_quality(difference[group]).accuracy,
                "length": pair_quality(judged[group]).accuracy,
            }
            for name, group in groups.items()
            if len(group)
        ]
    return pd.DataFrame(rows)


def learning_curve(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on the pairs of fold 0 by the share of the other folds that was learned from.

    Returns:
        criterion, share, accuracy, low, high (95% interval), pairs; the last share of a criterion is 1. Empty where
        the study trains no extra models (``rewards.learning_curve``).
    """
    rows = []
    has_curve = predictions["part"].str.startswith("curve").any()
    for (criterion, part), pairs in predictions.groupby(["criterion", "part"], sort=False):
        if not has_curve or not (part == "fold0" or str(part).startswith("curve")):
            continue
        quality = pair_quality((pairs["reward_chosen"] - pairs["reward_rejected"]).to_numpy())
        low, high = wilson_interval(quality.accuracy * quality.pairs, quality.pairs)
        share = 1.0 if part == "fold0" else float(str(part).removeprefix("curve")) / 100
        rows.append((criterion, share, quality.accuracy, low, high, quality.pairs))
    table = pd.DataFrame(rows, columns=["criterion", "share", "accuracy", "low", "high", "pairs"])
    return table.sort_values(["criterion", "share"], kind="stable").reset_index(drop=True)


def margins_seen_and_unseen(predictions: pd.DataFrame) -> pd.DataFrame:
    """Margins (reward of the chosen less that of the rejected response) of the pairs that a model was trained on, and
    of the same pairs by a model that did not see them.

    Both are divided by the criterion's temperature, which was fitted on the unseen ones, so they are log-odds.

    Returns:
        Two rows a criterion: criterion, seen, pairs, mean, spread (standard deviation), right (share above zero),
        sure (share above log-odds of 3, that is 95%). Criteria without a final model have none.
    """
    rows = []
    for criterion, mine in predictions.groupby("criterion", sort=False):
        unseen, final = out_of_fold(mine), mine[mine["part"] == "final"]
        if final.empty or unseen.empty:
            continue
        temperature = fit_temperature(unseen["difference"].to_numpy())
        for seen, pairs in ((False, unseen), (True, final)):
            margins = (pairs["reward_chosen"] - pairs["reward_rejected"]).to_numpy() / temperature
            rows.append(
                {
                    "criterion": criterion,
                    "seen": seen,
                    "pairs": len(margins),
                    "mean": float(margins.mean()),
                    "spread": float(margins.std()),
                    "right": pair_quality(margins).accuracy,
                    "sure": float((margins > SURE_LOG_ODDS).mean()),
                }
            )
    return pd.DataFrame(rows, columns=["criterion", "seen", "pairs", "mean", "spread", "right", "sure"])


def losses_compared(predictions: pd.DataFrame, used: str) -> pd.DataFrame:
    """Best/worst pairs (Bradley-Terry) against whole rankings (Plackett-Luce), on the pairs of fold 0.

    Both models learned from the questions of the other folds, with the same settings and number of steps.

    Args:
        used: the study's own loss; ``rewards.compare_losses`` trains the other one, too.

    Returns:
        criterion, pairs, and for each loss its accuracy; ``only_bradley_terry`` and ``only_plackett_luce`` count pairs
        that one alone gets right, ``p`` is McNemar's exact test of these. Empty where nothing was compared.
    """
    columns = ["criterion", "pairs", *LOSSES, *(f"only_{one}" for one in LOSSES), "p"]
    other = next(one for one in LOSSES if one != used)
    rows = []
    for criterion, mine in predictions.groupby("criterion", sort=False):
        by_part = {
            name: mine[mine["part"] == part].set_index("question_id")
            for name, part in ((used, "fold0"), (other, other))
        }
        if by_part[other].empty or by_part[used].empty:
            continue
        right = {}
        for name in LOSSES:
            pairs = by_part[name].loc[by_part[used].index]
            right[name] = (pairs["reward_chosen"] > pairs["reward_rejected"]).to_numpy()
        only = [int((right[one] & ~right[two]).sum()) for one, two in (LOSSES, LOSSES[::-1])]
        p = float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0
        rows.append((criterion, len(by_part[used]), *(float(right[one].mean()) for one in LOSSES), *only, p))
    return pd.DataFrame(rows, columns=columns)
