"""All that is said about people and model: outcomes, agreement, consensus, whether one may replace the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
import pandas as pd

from modpo_hpc.evaluation.agreement import fleiss_kappa, gwet_ac1, krippendorff_alpha
from modpo_hpc.human.alternative import RatersAlpha, alternative_annotator_test, grounds, raters_alpha
from modpo_hpc.human.answers import MISSING, Ratings
from modpo_hpc.human.measures import CLASSES, Agreement, Labels, Rule, agreement, confusion, consensus, known, without
from modpo_hpc.human.sample import WORDS
from modpo_hpc.intervals import percentiles
from modpo_hpc.seeds import rng_of

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
        questions = human.shape[1]
        draws = rng_of(seed, "human", "bootstrap", criterion).integers(0, questions, (replicates, questions))
        add(
            "raters_agree",
            {"criterion": criterion, **_raters_agree(human, raters_alpha(human, draws, confidence, number))},
        )
        for rule in get_args(Rule):
            key = {"criterion": criterion, "rule": rule}
            truth = consensus(human, rule)
            add("outcomes", {**key, **_outcomes(truth, draws, confidence)})
            baseline = _left_out(human, rule, 2)
            add("model_agrees", {**key, "who": "raters, each left out", **_mean_and_sem(baseline)})
            add("three_class", *[{**key, **row} for row in _three_class(human, model.get(criterion), rule)])
            if criterion not in model:
                continue
            given = model[criterion]
            add("model_agrees", {**key, "who": "model", **_with_interval(truth, given, draws, confidence)})
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
    for label, name in WORDS.items():
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


def _with_interval(truth: Labels, given: Labels, draws: np.ndarray, confidence: float) -> dict[str, Any]:
    """Agreement without ties, with an interval of its accuracy."""
    low, high = percentiles(np.array([_accuracy(truth[draw], given[draw]) for draw in draws]), (1 - confidence) / 2)
    return {**agreement(truth, given, 2).row(), "accuracy_low": low, "accuracy_high": high}


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
    scored = []
    for rater, own in enumerate(human):
        both = np.where(known(own, 2) & known(given, 2), without(human, rater, rule), MISSING)
        rated, modelled = agreement(both, own, 2), agreement(both, given, 2)
        if rated.n:
            scored.append((rated.n, modelled.accuracy, rated.accuracy))
    if not scored:
        return {"raters": 0, "n": 0.0, **dict.fromkeys(("model", "rater", "difference", "difference_sem"), math.nan)}
    sizes, models, people = np.array(scored).T
    differences = models - people
    sem = float(differences.std(ddof=1) / math.sqrt(len(scored))) if len(scored) > 1 else math.nan
    return {
        "raters": len(scored),
        "n": float(np.mean(sizes)),
        "model": float(np.mean(models)),
        "rater": float(np.mean(people)),
        "difference": float(np.mean(differences)),
        "difference_sem": sem,
    }


def _confusion(truth: Labels, given: Labels) -> list[dict[str, Any]]:
    columns = [f"model_{WORDS[label]}" for label in CLASSES]
    return [
        {"consensus": WORDS[label], **dict(zip(columns, counts, strict=True))}
        for label, counts in zip(CLASSES, confusion(truth, given).tolist(), strict=True)
    ]


def _by_strength(
    human: Labels, given: Labels, truth: Labels, draws: np.ndarray, confidence: float
) -> list[dict[str, Any]]:
    """Accuracy of the model by the number of raters who gave the label of the consensus, ties left out."""
    judged = (human != MISSING).sum(axis=0)
    behind = (human == truth).sum(axis=0)
    decided = known(truth, 2)
    rows = []
    for agreeing, of in sorted(set(zip(behind[decided].tolist(), judged[decided].tolist(), strict=True))):
        there = decided & (behind == agreeing) & (judged == of)
        found = _with_interval(np.where(there, truth, MISSING).astype(np.int8), given, draws, confidence)
        rows.append(
            {
                "agreeing": agreeing,
                "raters": of,
                "questions": int(there.sum()),
                "n": found["n"],
                "accuracy": found["accuracy"],
                "low": found["accuracy_low"],
                "high": found["accuracy_high"],
                "constant": found["constant"],
            }
        )
    return rows


def _accuracy(truth: Labels, given: Labels) -> float:
    both = known(truth, 2) & known(given, 2)
    return float((truth[both] == given[both]).mean()) if both.any() else math.nan


def _share(labels: Labels, label: int) -> float:
    judged = labels[labels != MISSING]
    return float((judged == label).mean()) if len(judged) else math.nan
