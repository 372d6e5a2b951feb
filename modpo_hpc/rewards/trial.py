"""The search of one criterion's settings: its space, and what one trial does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from modpo_hpc.intervals import wilson_interval
from modpo_hpc.rewards.accuracy import differences, pair_quality
from modpo_hpc.rewards.encoding import count_longer
from modpo_hpc.rewards.loading import TrialData
from modpo_hpc.rewards.model import rewards_of_pairs
from modpo_hpc.rewards.training import RewardLearner, train
from modpo_hpc.run import Run, Shard
from modpo_hpc.search import Objective, RunningTrial, Trial, folder_of_trial
from modpo_hpc.study.rewards import Rewards, RewardSettings
from modpo_hpc.training import Row, TrainingContext

STAGE = "reward_trials"


def objective(run: Run, shard: Shard, criterion: str, load: Callable[[], TrialData]) -> Objective:
    """What a trial is: a model trained on all but the held-out questions; its value is the held-out accuracy."""
    load = cache(load)

    def compute(trial: RunningTrial) -> float:
        data, seed = load(), run.seed(STAGE, criterion, trial.number)
        with folder_of_trial(run, shard, trial.number) as folder:
            context = TrainingContext(folder, shard.check, shard.progress)
            return train_trial(data, run.study.rewards, trial, seed, context)

    return compute


def train_trial(data: TrialData, options: Rewards, trial: RunningTrial, seed: int, context: TrainingContext) -> float:
    """Train with ``trial.params``, report each epoch's held-out accuracy, and return the best.

    Raises:
        optuna.TrialPruned: the search stops this trial.
    """
    settings = RewardSettings.model_validate(trial.params)
    model = data.reading.fresh_model(settings.dropout, seed)

    def after_epoch(loss: float) -> dict[str, float]:
        rewards = rewards_of_pairs(model, data.held_out, data.encoded, settings.max_length, options.score_tokens)
        quality = pair_quality(differences(rewards, data.held_out))
        return {"accuracy": quality.accuracy, "loss": quality.loss, "training_loss": loss}

    def report(epochs: list[Row], ended: bool) -> None:
        results = [row["result"] for row in epochs]
        trial.facts.update(_facts(results))
        trial.follow([one["accuracy"] for one in results], ended)

    trial.facts.update(pairs=len(data.held_out), seed=seed)
    trial.facts["cut_responses"] = count_longer(data.encoded.values(), settings.max_length)
    learner = RewardLearner(model, data.training, data.encoded, settings, options, seed, after_epoch)
    train(learner, context, patience=options.patience, on_evaluation=report)
    return float(trial.facts["accuracy"])


def best_epoch(results: list[dict[str, float]]) -> int:
    """The epoch (from 1) of the highest accuracy, then the lowest loss, then the first; 0 if there is none."""
    return min(range(len(results)), key=lambda at: (-results[at]["accuracy"], results[at]["loss"]), default=-1) + 1


def trial_row(criterion: str, trial: Trial) -> dict[str, Any]:
    """The row of ``TRIALS`` for a finished trial."""
    facts, pairs = trial.facts, trial.facts["pairs"]
    low, high = wilson_interval(facts["accuracy"] * pairs, pairs)
    return {
        "criterion": criterion,
        "trial": trial.number,
        "state": "pruned" if trial.pruned else "complete",
        "accuracy_low": low,
        "accuracy_high": high,
        **trial.params,
        **facts,
    }


def _facts(results: list[dict[str, float]]) -> dict[str, Any]:
    best = best_epoch(results)
    return {
        "best_epoch": best,
        "accuracy": results[best - 1]["accuracy"],
        "loss": results[best - 1]["loss"],
        "accuracies": [one["accuracy"] for one in results],
        "losses": [one["loss"] for one in results],
        "training_losses": [one["training_loss"] for one in results],
    }
