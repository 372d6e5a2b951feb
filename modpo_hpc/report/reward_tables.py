"""Tables on the reward models: accuracy, margins seen and unseen, losses compared, length, rewards of the policies."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from modpo_hpc.report import formats
from modpo_hpc.report.parts import Shown, numbers, text
from modpo_hpc.rewards.diagnostics import learning_curve


def accuracy_table(diagnostics: dict[str, dict[str, Any]], trials: pd.DataFrame) -> Shown:
    """A row a criterion, of what ``rewards.diagnose`` finds."""
    done = Counter(zip(trials["criterion"], trials["state"], strict=True)) if len(trials) else Counter()
    rows = [
        [
            formats.title(criterion),
            f"{found['pairs']:,}",
            formats.percent(found["accuracy"]),
            formats.interval(*found["interval"]),
            formats.percent(found["in_sample"]),
            f"{found['temperature']:.3g}",
            f"{found['error_before']:.3f}",
            f"{found['error_after']:.3f}",
            f"{found['error_by_chance']:.3f} (to {found['error_at_most_by_chance']:.3f})",
            f"{done[criterion, 'complete']} + {done[criterion, 'pruned']}",
        ]
        for criterion, found in diagnostics.items()
    ]
    headings = (
        "pairs",
        "unseen",
        "interval",
        "seen",
        "temperature",
        "ECE raw",
        "ECE calibrated",
        "ECE by chance",
        "trials",
    )
    return Shown(
        "Accuracy on pairs that the model did not see and on those that it was trained on, calibration, and complete "
        "and pruned trials. ECE by chance: what a perfectly calibrated model would show on as many pairs, and at most "
        "in nineteen of twenty cases",
        [text("Criterion"), *numbers(*headings)],
        rows,
        "rewards",
    )


def margins_table(margins: pd.DataFrame) -> list[Shown]:
    """Margins of the same pairs by models that saw them and models that did not; none without a final model."""
    rows = [
        [
            formats.title(row["criterion"]),
            "seen" if row["seen"] else "unseen",
            f"{row['pairs']:,}",
            f"{row['mean']:.2f}",
            f"{row['spread']:.2f}",
            formats.percent(row["right"]),
            formats.percent(row["sure"]),
        ]
        for row in margins.to_dict("records")
    ]
    columns = [text("Criterion"), text("Pairs were"), *numbers("pairs", "mean margin", "spread", "right", "above 95%")]
    caption = (
        "Margins in log-odds: of pairs that the model did not see (out of fold, as MODPO uses them) and of pairs that "
        "it was trained on"
    )
    return [Shown(caption, columns, rows, "reward_margins")] if rows else []


def losses_table(compared: pd.DataFrame) -> list[Shown]:
    """Best/worst pairs against whole rankings; none where the study does not compare them."""
    rows = [
        [
            formats.title(row["criterion"]),
            f"{row['pairs']:,}",
            formats.percent(row["bradley_terry"]),
            formats.percent(row["plackett_luce"]),
            str(row["only_bradley_terry"]),
            str(row["only_plackett_luce"]),
            formats.p_value(row["p"]),
        ]
        for row in compared.to_dict("records")
    ]
    headings = ("pairs", "best/worst pairs", "whole rankings", "only pairs right", "only rankings right", "p")
    caption = (
        "What is learned from: the best and the worst response (Bradley-Terry) or all five (Plackett-Luce), on the "
        "same unseen questions; p of McNemar's exact test"
    )
    return [Shown(caption, [text("Criterion"), *numbers(*headings)], rows, "reward_losses")] if rows else []


def length_table(shortcut: pd.DataFrame) -> Shown:
    """Does the model read more than length."""
    parts = {"all": "all pairs", "1": "alike", "2": "between", "3": "most unlike"}
    rows = [
        [
            formats.title(row["criterion"]),
            parts[row["part"]],
            f"{row['difference']:.0f}",
            f"{row['pairs']:,}",
            formats.percent(row["model"]),
            formats.percent(row["length"]),
        ]
        for row in shortcut.to_dict("records")
    ]
    return Shown(
        "The models beside a judge that sees length alone, by how unlike the two responses are in length",
        [text("Criterion"), text("Lengths"), *numbers("characters apart", "pairs", "model", "length alone")],
        rows,
        "reward_length",
        folded=True,
    )


def curve_table(predictions: pd.DataFrame) -> list[Shown]:
    """Would more data help; none where the study trains no models on shares of them."""
    rows = [
        [
            formats.title(row["criterion"]),
            formats.percent(row["share"]),
            formats.percent(row["accuracy"]),
            formats.interval(row["low"], row["high"]),
        ]
        for row in learning_curve(predictions).to_dict("records")
    ]
    caption = "Accuracy on the same unseen pairs by the share of the training questions"
    columns = [text("Criterion"), *numbers("share", "accuracy", "interval")]
    return [Shown(caption, columns, rows, "reward_learning_curve", folded=True)] if rows else []


def answers_table(scores: pd.DataFrame, scale: str) -> Shown:
    """Mean reward of every policy's answers, by criterion, with the half-width of its 95% interval."""
    groups = scores.groupby(["policy", "criterion"], sort=False)["reward"]
    means, halves = groups.mean().unstack(sort=False), 1.96 * groups.sem().unstack(sort=False)
    criteria = list(dict.fromkeys(scores["criterion"]))
    rows = [
        [policy, *(f"{formats.signed(means.loc[policy, one])} ± {halves.loc[policy, one]:.2f}" for one in criteria)]
        for policy in dict.fromkeys(scores["policy"])
    ]
    policies = [row[0] for row in rows]
    best = {(policies.index(str(means[one].idxmax())), at + 1) for at, one in enumerate(criteria)}
    unit = {"calibrated": "log-odds against the mean training response", "zscore": "standard deviations"}
    return Shown(
        f"Mean reward of the answers to the test questions by the final models ({unit.get(scale, 'raw')}), with 95% "
        "intervals. The policies were trained towards such rewards: this shows what they learned, not who is better",
        [text("Policy"), *numbers(*map(formats.title, criteria))],
        rows,
        "reward_answers",
        frozenset(best),
    )
