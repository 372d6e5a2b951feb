"""From raw rewards to log-odds: one temperature per criterion, and how well the probabilities then hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from modpo_hpc.errors import InputError
from modpo_hpc.study import Study

BINS = 10
_LARGEST_LOG = 12.0
_TURNS = 5


@dataclass(frozen=True)
class Scale:
    """``(raw - offset) / divisor``."""

    offset: float = 0.0
    divisor: float = 1.0

    def apply(self, raw: float) -> float:
        """The reward on the study's scale."""
        return (raw - self.offset) / self.divisor


def fit_temperature(differences: np.ndarray, shares: np.ndarray | None = None) -> float:
    """The temperature T > 0 under which sigma(difference / T) is the most likely (Guo et al. 2017), for pairs.

    Without ``shares`` the targets are that the chosen response is better, smoothed as Platt (1999) does, (n + 1) /
    (n + 2) for 1, so that T is finite where every pair is right. Where the model is no better than chance, T is large
    and all rewards are near zero.

    Args:
        differences: raw reward of the chosen less that of the rejected response, shape (pairs,), on unseen questions.
        shares: of the votes for the chosen response, between 0 and 1, shape (pairs,).
    """
    target = (len(differences) + 1) / (len(differences) + 2) if shares is None else shares

    def loss(log_temperature: float) -> float:
        scaled = differences / np.exp(log_temperature)
        return float(np.mean(target * np.logaddexp(0, -scaled) + (1 - target) * np.logaddexp(0, scaled)))

    best = minimize_scalar(loss, bounds=(-_LARGEST_LOG, _LARGEST_LOG), method="bounded", options={"xatol": 1e-10})
    return float(np.exp(best.x))


def reliability(probabilities: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Confidence against accuracy in equal bins of [0.5, 1].

    Args:
        probabilities: that the chosen response wins, shape (pairs,). The model's own choice is the likelier response;
            it is right where the probability is above one half.

    Returns:
        One row a bin that holds pairs: low, high, confidence, accuracy, pairs.
    """
    confidence, right = np.maximum(probabilities, 1 - probabilities), probabilities > 0.5
    edges, place = np.linspace(0.5, 1.0, bins + 1), _bin_of(confidence, bins)
    rows = [
        {
            "low": edges[one],
            "high": edges[one + 1],
            "confidence": float(confidence[place == one].mean()),
            "accuracy": float((right + 0.5 * (probabilities == 0.5))[place == one].mean()),
            "pairs": int((place == one).sum()),
        }
        for one in range(bins)
        if (place == one).any()
    ]
    return pd.DataFrame(rows, columns=["low", "high", "confidence", "accuracy", "pairs"])


def _bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(np.digitize(confidence, np.linspace(0.5, 1.0, bins + 1)[1:-1]), 0, bins - 1)


def calibration_error(bins: pd.DataFrame) -> float:
    """Expected calibration error (Naeini et al. 2015): mean distance of accuracy from confidence, weighed by pairs."""
    return float(np.average((bins["accuracy"] - bins["confidence"]).abs(), weights=bins["pairs"]))


def error_of_the_calibrated(probabilities: np.ndarray, seed: int = 0, draws: int = 400) -> tuple[float, float]:
    """What ``calibration_error`` says of a perfectly calibrated model with these probabilities: mean and 95% quantile.

    It is above zero, because the accuracy of a bin of few pairs strays from its confidence by chance. An error below
    the quantile is no evidence against the calibration.

    Args:
        probabilities: as for ``reliability``.
        draws: how many times the outcomes of all pairs are drawn from their own probabilities.
    """
    confidence = np.maximum(probabilities, 1 - probabilities)
    place = _bin_of(confidence, BINS)
    bins = np.eye(BINS)[place]
    right = np.random.default_rng(seed).random((draws, len(confidence))) < confidence
    errors = np.abs((right - confidence) @ bins).sum(axis=1) / len(confidence)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def out_of_fold(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``PREDICTIONS`` by the fold models, each of which saw none of its pairs; ``difference`` is added."""
    chosen = predictions[predictions["part"].str.startswith("fold")]
    return chosen.assign(difference=chosen["reward_chosen"] - chosen["reward_rejected"])


def cross_fitted_probabilities(pairs: pd.DataFrame) -> np.ndarray:
    """Calibrated probability of every pair of one criterion, with the temperature that the other pairs give.

    A fifth of the pairs of every fold at a time: one temperature serves the models of all folds, as in the scores.
    """
    differences, probabilities = pairs["difference"].to_numpy(), np.empty(len(pairs))
    turn = pairs.groupby("fold").cumcount().to_numpy() % _TURNS
    for one in range(_TURNS):
        mine = turn == one
        if mine.any():
            probabilities[mine] = sigmoid(differences[mine] / fit_temperature(differences[~mine]))
    return probabilities


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Log-odds to probabilities."""
    return np.exp(-np.logaddexp(0.0, -logits))


def vote_shares(margins: np.ndarray, study: Study) -> np.ndarray:
    """Share of the votes for the chosen response of each pair, from ``margins``: votes of the chosen less the rejected.

    Raises:
        InputError: the margins are not sums over the ballots of the study, as those of imported rankings are not.
    """
    ballots, furthest = study.ranking.personas_per_question, study.ranking.weights[0] - study.ranking.weights[-1]
    if margins.max() > ballots * furthest or margins.max() <= furthest < ballots * furthest:
        raise InputError(
            f"these pairs do not hold the votes of {ballots} ballots, so the scale of one vote cannot be found",
            field="rewards.scale",
            value="vote",
            remedy="Take the scale calibrated for imported pairs.",
        )
    return (1 + margins / (ballots * furthest)) / 2


def scales(predictions: pd.DataFrame, study: Study) -> Mapping[tuple[str, str], Scale]:
    """(criterion, part) -> how the raw rewards of that model come onto the study's scale; ``part`` as in the table.

    The temperature is that of the pairs that a model did not see, for the final model, too: it saw all of its own.
    For ``vote`` it is fitted to the shares of the votes instead of the label that they make together: a vote counts for
    the chosen response by how far above the rejected one it puts it, from 0 (as far below as can be) to 1.
    All but ``raw`` also take away the mean of the model's pairs, since a Bradley-Terry model fixes differences only.
    """
    kind, result = study.rewards.scale, {}
    for criterion, mine in predictions.groupby("criterion", sort=True):
        unseen = out_of_fold(mine)
        shares = vote_shares(unseen["margin"].to_numpy(), study) if kind == "vote" else None
        temperature = fit_temperature(unseen["difference"].to_numpy(), shares)
        for part, pairs in mine.groupby("part", sort=True):
            rewards = np.concatenate([pairs["reward_chosen"], pairs["reward_rejected"]])
            divisor = float(rewards.std()) or 1.0 if kind == "zscore" else temperature
            result[str(criterion), str(part)] = Scale() if kind == "raw" else Scale(float(rewards.mean()), divisor)
    return result
