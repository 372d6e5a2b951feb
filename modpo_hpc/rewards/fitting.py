"""The models of one criterion: one a fold, points of the learning curve, one of the other loss, the final one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modpo_hpc.rewards.accuracy import pair_quality
from modpo_hpc.rewards.loading import Reading, first_share, folds_of
from modpo_hpc.rewards.model import RewardModel, quiet_transformers, rewards_of_pairs
from modpo_hpc.rewards.records import Comparison
from modpo_hpc.rewards.training import RewardLearner, train
from modpo_hpc.run import Run, Shard
from modpo_hpc.search import best_complete
from modpo_hpc.study.rewards import LOSSES, RewardSettings
from modpo_hpc.training import Row, TrainingContext

SETTINGS_FILE, LOG_FILE = "settings.json", "log.jsonl"


@dataclass(frozen=True)
class FitSettings:
    """With what a model is trained, and for how many of ``settings.epochs``."""

    settings: RewardSettings
    epochs: int
    trial: int | None


def recipe_of(run: Run, criterion: str) -> FitSettings:
    """The best trial's settings, up to its best epoch; the study's own settings where nothing was searched."""
    rewards = run.study.rewards
    if rewards.search.trials == 0:
        return FitSettings(rewards.settings, rewards.settings.epochs, None)
    shards = [f"{criterion}.{number}" for number in range(rewards.search.trials)]
    best = best_complete(run.table("reward_trials", shard_ids=shards).to_pylist())
    settings = RewardSettings.model_validate({name: best[name] for name in RewardSettings.model_fields})
    return FitSettings(settings, best["best_epoch"], best["trial"])


def fit_part(run: Run, shard: Shard) -> list[dict[str, Any]]:
    """Train the model of this shard, keep it with its settings and log, and return the rows of ``PREDICTIONS``."""
    criterion, _, part = shard.id.rpartition(".")
    recipe = recipe_of(run, criterion)
    options = run.study.rewards.model_copy(update={"loss": part}) if part in LOSSES else run.study.rewards
    reading = Reading(run)
    folds = folds_of(run, reading.texts)
    comparisons, encoded = reading.comparisons(criterion, options.loss)
    training = _training_part(part, comparisons, folds, run.seed("rewards", "curve"))
    seed = run.seed("rewards", criterion, part)
    model = reading.fresh_model(recipe.settings.dropout, seed)
    context = TrainingContext(shard.scratch, shard.check, shard.progress)
    learner = RewardLearner(
        model, training, encoded, recipe.settings, options, seed, lambda loss: {"training_loss": loss}
    )
    log = train(learner, context, epochs=recipe.epochs)
    # the pairs that the model did not see; of the final model, which saw all, all pairs
    fold, seen = _fold_of(part), {one.question_id for one in training}
    wanted = [one.pair() for one in comparisons if part == "final" or folds[one.question_id] == fold]
    rewards = rewards_of_pairs(model, wanted, encoded, recipe.settings.max_length, options.score_tokens)
    rows: list[dict[str, Any]] = [
        {
            "criterion": criterion,
            "part": part,
            "fold": folds[one.question_id],
            "seen": one.question_id in seen,
            "question_id": one.question_id,
            "chosen": one.responses[0],
            "rejected": one.responses[1],
            "margin": one.margin,
            "reward_chosen": rewards[one.responses[0]],
            "reward_rejected": rewards[one.responses[1]],
        }
        for one in wanted
    ]
    _keep(shard, model, reading.tokenizer, recipe, part, log)
    unseen = [row["reward_chosen"] - row["reward_rejected"] for row in rows if not row["seen"]]
    if unseen:
        shard.metrics["accuracy"] = pair_quality(np.array(unseen)).accuracy
    return rows


def _training_part(
    part: str, comparisons: Sequence[Comparison], folds: Mapping[str, int], seed: int
) -> list[Comparison]:
    """What model ``part`` learns from: a fold's and the other loss's from the questions outside the fold (for the
    latter fold 0), a point of the learning curve from a share of what fold 0's model does."""
    if part == "final":
        return list(comparisons)
    others = [one for one in comparisons if folds[one.question_id] != _fold_of(part)]
    if not part.startswith("curve"):
        return others
    chosen = first_share([one.question_id for one in others], float(part.removeprefix("curve")) / 100, seed)
    return [one for one in others if one.question_id in chosen]


def _fold_of(part: str) -> int:
    """The fold that model ``part`` is not trained on; 0 for those that are compared with fold 0's model."""
    return int(part.removeprefix("fold")) if part.startswith("fold") else 0


def _keep(shard: Shard, model: RewardModel, tokenizer: Any, recipe: FitSettings, part: str, log: Sequence[Row]) -> None:
    """Write the model's folder: settings and log, and of a model that will score, weights and tokenizer."""
    with shard.directory(shard.id) as folder, quiet_transformers():
        if part.startswith("fold") or part == "final":
            model.network.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        described = {**recipe.settings.model_dump(), "epochs_trained": recipe.epochs, "trial": recipe.trial}
        (folder / SETTINGS_FILE).write_text(json.dumps(described, indent=1))
        (folder / LOG_FILE).write_text("".join(json.dumps(row) + "\n" for row in log))
