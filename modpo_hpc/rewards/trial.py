"""The search of one criterion's settings: its space, and what one trial does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modpo_hpc.intervals import wilson_interval
from modpo_hpc.rewards.accuracy import differences, pair_quality
from modpo_hpc.rewards.encoding import Encoded, batches_by_length, count_longer
from modpo_hpc.rewards.model import load_reward_model, predict
from modpo_hpc.rewards.records import Comparison
from modpo_hpc.rewards.training import Epoch, train
from modpo_hpc.run import Run, Shard
from modpo_hpc.search import Objective, RunningTrial, Trial, folder_of_trial
from modpo_hpc.study.rewards import Rewards, RewardSettings
from modpo_hpc.training import Row, TrainingContext

STAGE = "reward_trials"


@dataclass(frozen=True)
class TrialData:
    """What every trial of a criterion works on: the encoder, and comparisons to learn from and to be held to."""

    model: str
    pad_id: int
    training: list[Comparison]
    held_out: list[Comparison]
    encoded: Mapping[str, Encoded]


def trial_seed(run: Run, criterion: str, number: int) -> int:
    """The seed of a trial's head, order and dropout."""
    return run.seed(STAGE, criterion, number)


def objective(run: Run, shard: Shard, criterion: str, load: Callable[[], TrialData]) -> Objective:
    """What a trial is: a model trained on all but the held-out questions; its value is the held-out accuracy."""
    loaded: list[TrialData] = []

    def compute(trial: RunningTrial) -> float:
        if not loaded:
            loaded.append(load())
        with folder_of_trial(run, shard, trial.number) as folder:
            context = TrainingContext(folder, shard.check, shard.progress)
            seed = trial_seed(run, criterion, trial.number)
            return train_trial(loaded[0], run.study.rewards, trial, seed, context)

    return compute


def train_trial(data: TrialData, options: Rewards, trial: RunningTrial, seed: int, context: TrainingContext) -> float:
    """Train with ``trial.params``, report each epoch's held-out accuracy, and return the best.

    Raises:
        optuna.TrialPruned: the search stops this trial.
    """
    settings = RewardSettings.model_validate(trial.params)
    model = load_reward_model(
        data.model,
        data.pad_id,
        dropout=settings.dropout,
        seed=seed,
        precision=options.precision,
        gradient_checkpointing=options.gradient_checkpointing,
    )
    ids = [one for each in data.held_out for one in each.pair().responses]
    rows = [data.encoded[one].cut(settings.max_length) for one in ids]
    batches = batches_by_length([len(row.ids) for row in rows], options.score_tokens)

    def after_epoch(epoch: Epoch) -> dict[str, float]:
        rewards = dict(zip(ids, predict(model, rows, batches), strict=True))
        quality = pair_quality(differences(rewards, data.held_out))
        return {"accuracy": quality.accuracy, "loss": quality.loss, "training_loss": epoch.loss}

    def report(epochs: list[Row], ended: bool) -> None:
        results = [row["result"] for row in epochs]
        trial.facts.update(_facts(results))
        trial.follow([one["accuracy"] for one in results], ended)

    trial.facts.update(pairs=len(data.held_out), seed=seed)
    trial.facts["cut_responses"] = count_longer(data.encoded.values(), settings.max_length)
    epochs = train(
        model,
        data.training,
        data.encoded,
        settings,
        options,
        seed,
        context,
        after_epoch=after_epoch,
        patience=options.patience,
        on_evaluation=report,
    )
    results = [row["result"] for row in epochs]
    return float(results[best_epoch(results) - 1]["accuracy"])


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
