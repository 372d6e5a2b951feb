"""Tables on the reward models: accuracy, margins seen and unseen, losses compared, length, rewards of the policies."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from modpo_hpc.report import formats
from modpo_hpc.report.columns import CRITERION, INTERVAL
from modpo_hpc.report.parts import Shown, number, numbers, records, table, text
from modpo_hpc.rewards.diagnostics import learning_curve

PAIRS = number("pairs", "{:,}".format, "pairs")


def accuracy_table(diagnostics: dict[str, dict[str, Any]], trials: pd.DataFrame) -> Shown:
    """A row a criterion, of what ``rewards.diagnose`` finds."""
    done = Counter(zip(trials["criterion"], trials["state"], strict=True)) if len(trials) else Counter()
    return table(
        "Accuracy on pairs that the model did not see and on those that it was trained on, calibration, and complete "
        "and pruned trials. ECE by chance: what a perfectly calibrated model would show on as many pairs, and at most "
        "in nineteen of twenty cases",
        [
            CRITERION,
            PAIRS,
            number("unseen", formats.percent, "accuracy"),
            number("interval", lambda bounds: formats.interval(*bounds), "interval"),
            number("seen", formats.percent, "in_sample"),
            number("temperature", "{:.3g}".format, "temperature"),
            number("ECE raw", "{:.3f}".format, "error_before"),
            number("ECE calibrated", "{:.3f}".format, "error_after"),
            number("ECE by chance", "{:.3f} (to {:.3f})".format, "error_by_chance", "error_at_most_by_chance"),
            number("trials", lambda name: f"{done[name, 'complete']} + {done[name, 'pruned']}", "criterion"),
        ],
        (found | {"criterion": criterion} for criterion, found in diagnostics.items()),
        "rewards",
    )


def margins_table(margins: pd.DataFrame) -> Shown:
    """Margins of the same pairs by models that saw them and models that did not; no rows without a final model."""
    return table(
        "Margins in log-odds: of pairs that the model did not see (out of fold, as MODPO uses them) and of pairs that "
        "it was trained on",
        [
            CRITERION,
            text("Pairs were", "seen", lambda seen: "seen" if seen else "unseen"),
            PAIRS,
            number("mean margin", "{:.2f}".format, "mean"),
            number("spread", "{:.2f}".format, "spread"),
            number("right", formats.percent, "right"),
            number("above 95%", formats.percent, "sure"),
        ],
        records(margins),
        "reward_margins",
    )


def losses_table(compared: pd.DataFrame) -> Shown:
    """Best/worst pairs against whole rankings; no rows where the study does not compare them."""
    return table(
        "What is learned from: the best and the worst response (Bradley-Terry) or all five (Plackett-Luce), on the "
        "same unseen questions; p of McNemar's exact test",
        [
            CRITERION,
            PAIRS,
            number("best/worst pairs", formats.percent, "bradley_terry"),
            number("whole rankings", formats.percent, "plackett_luce"),
            number("only pairs right", str, "only_bradley_terry"),
            number("only rankings right", str, "only_plackett_luce"),
            number("p", formats.p_value, "p"),
        ],
        records(compared),
        "reward_losses",
    )


def length_table(shortcut: pd.DataFrame) -> Shown:
    """Does the model read more than length."""
    parts = {"all": "all pairs", "1": "alike", "2": "between", "3": "most unlike"}
    return table(
        "The models beside a judge that sees length alone, by how unlike the two responses are in length",
        [
            CRITERION,
            text("Lengths", "part", parts.__getitem__),
            number("characters apart", "{:.0f}".format, "difference"),
            PAIRS,
            number("model", formats.percent, "model"),
            number("length alone", formats.percent, "length"),
        ],
        records(shortcut),
        "reward_length",
        folded=True,
    )


def curve_table(predictions: pd.DataFrame) -> Shown:
    """Would more data help; no rows where the study trains no models on shares of them."""
    return table(
        "Accuracy on the same unseen pairs by the share of the training questions",
        [
            CRITERION,
            number("share", formats.percent, "share"),
            number("accuracy", formats.percent, "accuracy"),
            INTERVAL,
        ],
        records(learning_curve(predictions)),
        "reward_learning_curve",
        folded=True,
    )


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
