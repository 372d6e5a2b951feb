"""All that is said about people and model: outcomes, agreement, consensus, whether one may replace the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from modpo_hpc.evaluation.agreement import fleiss_kappa, gwet_ac1, krippendorff_alpha
from modpo_hpc.human.alternative import RatersAlpha, alternative_annotator_test, grounds, raters_alpha
from modpo_hpc.human.answers import MISSING, TIE, WON_A, WON_B, Ratings
from modpo_hpc.human.measures import CLASSES, Agreement, Labels, Rule, agreement, confusion, consensus, without
from modpo_hpc.intervals import percentiles
from modpo_hpc.seeds import rng_of

RULES: tuple[Rule, ...] = ("majority", "absolute", "plurality")
NAMES = {WON_A: "A", TIE: "tie", WON_B: "B"}
Tables = dict[str, pd.DataFrame]
_MEASURES = ("accuracy", "kappa", "ac1", "balanced", "constant")


def analyze(
    ratings: Ratings, model: Mapping[str, Labels], replicates: int, confidence: float, seed: int, epsilon: float
) -> Tables:
    """All tables, each with a row a criterion (and rule, level, ... as its columns say).

    Args:
        model: criterion -> the model's label of each question of ``ratings``; criteria it did not judge are absent.
        replicates: of the bootstrap over questions.
        epsilon: of the alternative annotator test.

    Returns:
        outcomes, raters_agree, model_agrees, three_class, same_truth, confusion, consensus, alternative.
    """
    tables: dict[str, list[dict[str, Any]]] = {}

    def add(table: str, *rows: dict[str, Any]) -> None:
        tables.setdefault(table, []).extend(rows)

    number = len(ratings.criteria)
    for place, criterion in enumerate(ratings.criteria):
        human = ratings.labels[:, :, place]
        draws = _draws(human.shape[1], replicates, seed, criterion)
        add(
            "raters_agree",
            {"criterion": criterion, **_raters_agree(human, raters_alpha(human, draws, confidence, number))},
        )
        for rule in RULES:
            key = {"criterion": criterion, "rule": rule}
            truth = consensus(human, rule)
            add("outcomes", {**key, **_outcomes(truth, draws, confidence)})
            baseline = _left_out(human, rule, 2)
            add("model_agrees", {**key, "who": "raters, each left out", **_mean_and_sem(baseline)})
            add("three_class", *[{**key, **row} for row in _three_class(human, model.get(criterion), rule)])
            if criterion not in model:
                continue
            given = model[criterion]
            add("model_agrees", {**key, "who": "model", **_with_interval(truth, given, 2, draws, confidence)})
            add("same_truth", {**key, **_same_truth(human, given, rule)})
            add("confusion", *[{**key, **row} for row in _confusion(truth, given)])
            add("consensus", *[{**key, **row} for row in _by_strength(human, given, truth, draws, confidence)])
        if criterion in model:
            tested = alternative_annotator_test(human, model[criterion], epsilon)
            rests = grounds(human, model[criterion], draws, confidence, number)
            add(
                "alternative",
                {
                    "criterion": criterion,
                    "epsilon": epsilon,
                    **asdict(tested),
                    **asdict(rests),
                    "beyond_chance": rests.beyond_chance,
                    "beats_constant": rests.beats_constant,
                    "may_replace": tested.passes and rests.beyond_chance and rests.beats_constant,
                },
            )
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def _outcomes(truth: Labels, draws: np.ndarray, confidence: float) -> dict[str, Any]:
    judged = truth[truth != MISSING]
    row: dict[str, Any] = {"n": len(judged)}
    for label, name in NAMES.items():
        shares = np.array([_share(truth[draw], label) for draw in draws])
        low, high = percentiles(shares, (1 - confidence) / 2)
        row |= {name: int((judged == label).sum()), f"{name}_share": _share(truth, label)}
        row |= {f"{name}_low": low, f"{name}_high": high}
    return row


def _raters_agree(human: Labels, alpha: RatersAlpha) -> dict[str, Any]:
    """Agreement among the raters over the three classes. Fleiss' kappa needs all raters on each question."""
    counts = np.stack([(human == one).sum(axis=0) for one in CLASSES], axis=1)
    judged = counts.sum(axis=1)
    complete = bool((judged == human.shape[0]).all()) and human.shape[0] > 1
    listed = [[None if one == MISSING else int(one) for one in row] for row in human.T]
    enough = bool((judged > 1).any())
    return {
        "raters": human.shape[0],
        "questions": int((judged > 0).sum()),
        "fleiss_kappa": fleiss_kappa(counts) if complete else math.nan,
        "krippendorff_alpha": krippendorff_alpha(listed) if enough else math.nan,
        "alpha_low": alpha.alpha_low,
        "alpha_high": alpha.alpha_high,
        "at_odds": alpha.at_odds,
        "gwet_ac1": gwet_ac1(listed, len(CLASSES)) if enough else math.nan,
        "unanimous_share": float((counts.max(axis=1) == judged)[judged > 0].mean()),
    }


def _left_out(human: Labels, rule: Rule, classes: int) -> list[Agreement]:
    """Each rater against what the others said."""
    return [agreement(without(human, rater, rule), human[rater], classes) for rater in range(human.shape[0])]


def _mean_and_sem(listed: Sequence[Agreement]) -> dict[str, Any]:
    """Mean over raters of each measure, its standard error, and the mean number of questions."""
    row: dict[str, Any] = {"n": float(np.mean([one.n for one in listed]))}
    for name in _MEASURES:
        values = np.array([getattr(one, name) for one in listed], dtype=float)
        values = values[~np.isnan(values)]
        row[name] = float(values.mean()) if len(values) else math.nan
        row[f"{name}_sem"] = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return row


def _with_interval(truth: Labels, given: Labels, classes: int, draws: np.ndarray, confidence: float) -> dict[str, Any]:
    estimate = agreement(truth, given, classes)
    row: dict[str, Any] = estimate.row()
    again = [_accuracy(truth[draw], given[draw], classes) for draw in draws]
    row["accuracy_low"], row["accuracy_high"] = percentiles(np.array(again), (1 - confidence) / 2)
    return row


def _three_class(human: Labels, given: Labels | None, rule: Rule) -> list[dict[str, Any]]:
    """Agreement over A, tie and B: rater and rater, rater and the others, model and rater, model and all."""
    raters = range(human.shape[0])
    pairs = [agreement(human[one], human[two], 3) for one in raters for two in raters if one < two]
    levels = [
        ("rater against rater", pairs),
        ("rater against the others' consensus", _left_out(human, rule, 3)),
    ]
    if given is not None:
        levels += [
            ("model against rater", [agreement(human[one], given, 3) for one in raters]),
            ("model against consensus", [agreement(consensus(human, rule), given, 3)]),
        ]
    return [{"level": level, **_mean_and_sem(listed)} for level, listed in levels if listed]


def _same_truth(human: Labels, given: Labels, rule: Rule) -> dict[str, Any]:
    """Model and rater scored on the same questions against the same truth, what the other raters said.

    Against the consensus of all, a rater would help to make the truth that he is scored by, and the model would not.
    """
    differences, models, people, sizes = [], [], [], []
    for rater in range(human.shape[0]):
        truth = without(human, rater, rule)
        own = human[rater]
        both = np.where((own == TIE) | (given == TIE) | (own == MISSING) | (given == MISSING), MISSING, truth)
        rated, modelled = agreement(both, own, 2), agreement(both, given, 2)
        if rated.n:
            people.append(rated.accuracy)
            models.append(modelled.accuracy)
            differences.append(modelled.accuracy - rated.accuracy)
            sizes.append(rated.n)
    if not sizes:
        return {"raters": 0, "n": 0.0, **dict.fromkeys(("model", "rater", "difference", "difference_sem"), math.nan)}
    sem = float(np.std(differences, ddof=1) / math.sqrt(len(sizes))) if len(sizes) > 1 else math.nan
    return {
        "raters": len(sizes),
        "n": float(np.mean(sizes)),
        "model": float(np.mean(models)),
        "rater": float(np.mean(people)),
        "difference": float(np.mean(differences)),
        "difference_sem": sem,
    }


def _confusion(truth: Labels, given: Labels) -> list[dict[str, Any]]:
    counts = confusion(truth, given)
    return [
        {"consensus": NAMES[t], **{f"model_{NAMES[g]}": int(counts[row, column]) for column, g in enumerate(CLASSES)}}
        for row, t in enumerate(CLASSES)
    ]


def _by_strength(
    human: Labels, given: Labels, truth: Labels, draws: np.ndarray, confidence: float
) -> list[dict[str, Any]]:
    """Accuracy of the model by the number of raters who gave the label of the consensus, ties left out."""
    judged = (human != MISSING).sum(axis=0)
    behind = (human == truth).sum(axis=0)
    rows = []
    strengths = sorted(
        {
            (int(one), int(all_))
            for one, all_, label in zip(behind, judged, truth, strict=True)
            if label in (WON_A, WON_B)
        }
    )
    for agreeing, of in strengths:
        there = (behind == agreeing) & (judged == of)
        part = np.where(there, truth, MISSING).astype(np.int8)
        estimate = agreement(part, given, 2)
        again = np.array([_accuracy(part[draw], given[draw], 2) for draw in draws])
        low, high = percentiles(again, (1 - confidence) / 2)
        rows.append(
            {
                "agreeing": agreeing,
                "raters": of,
                "questions": int((there & (truth != TIE) & (truth != MISSING)).sum()),
                "n": estimate.n,
                "accuracy": estimate.accuracy,
                "low": low,
                "high": high,
                "constant": estimate.constant,
            }
        )
    return rows


def _accuracy(truth: Labels, given: Labels, classes: int) -> float:
    usable = (truth != MISSING) & (given != MISSING)
    if classes == 2:
        usable &= (truth != TIE) & (given != TIE)
    return float((truth[usable] == given[usable]).mean()) if usable.any() else math.nan


def _share(labels: Labels, label: int) -> float:
    judged = labels[labels != MISSING]
    return float((judged == label).mean()) if len(judged) else math.nan


def _draws(questions: int, replicates: int, seed: int, criterion: str) -> np.ndarray:
    return rng_of(seed, "human", "bootstrap", criterion).integers(0, questions, (replicates, questions))
