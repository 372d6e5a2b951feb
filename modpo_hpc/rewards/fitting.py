"""The models of one criterion: one a fold, points of the learning curve, one of the other loss, the final one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modpo_hpc.models import reward_model_path
from modpo_hpc.rewards.accuracy import pair_quality
from modpo_hpc.rewards.encoding import batches_by_length
from modpo_hpc.rewards.loading import folds_of, load_comparisons
from modpo_hpc.rewards.model import RewardModel, load_reward_model, load_tokenizer, predict, quiet_transformers
from modpo_hpc.rewards.records import Comparison, best_trial, read_texts
from modpo_hpc.rewards.splits import first_share
from modpo_hpc.rewards.training import train
from modpo_hpc.run import Run, Shard
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
    best: dict[str, Any] = best_trial(run.table("reward_trials", shard_ids=shards), criterion)
    settings = RewardSettings.model_validate({name: best[name] for name in RewardSettings.model_fields})
    return FitSettings(settings, best["best_epoch"], best["trial"])


def fit_part(run: Run, shard: Shard) -> list[dict[str, Any]]:
    """Train the model of this shard, keep it with its settings and log, and return the rows of ``PREDICTIONS``."""
    criterion, _, part = shard.id.rpartition(".")
    recipe = recipe_of(run, criterion)
    options = run.study.rewards.model_copy(update={"loss": part}) if part in LOSSES else run.study.rewards
    path, texts = reward_model_path(run), read_texts(run)
    tokenizer, folds = load_tokenizer(path), folds_of(run, texts)
    comparisons, encoded = load_comparisons(run, criterion, options.loss, path, tokenizer, texts)
    training = _training_part(part, comparisons, folds, run.seed("rewards", "curve"))
    seed = run.seed("rewards", criterion, part)
    model = load_reward_model(
        path,
        tokenizer.pad_token_id,
        dropout=recipe.settings.dropout,
        seed=seed,
        precision=options.precision,
        gradient_checkpointing=options.gradient_checkpointing,
    )
    context = TrainingContext(shard.scratch, shard.check, shard.progress)
    log = train(
        model,
        training,
        encoded,
        recipe.settings,
        options,
        seed,
        context,
        epochs=recipe.epochs,
        after_epoch=lambda epoch: {"training_loss": epoch.loss},
    )
    rows = _predictions(
        criterion, part, model, comparisons, training, encoded, recipe.settings, options.score_tokens, folds
    )
    _keep(shard, model, tokenizer, recipe, part, log)
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
    fold = int(part.removeprefix("fold")) if part.startswith("fold") else 0
    others = [one for one in comparisons if folds[one.question_id] != fold]
    if not part.startswith("curve"):
        return others
    chosen = first_share([one.question_id for one in others], float(part.removeprefix("curve")) / 100, seed)
    return [one for one in others if one.question_id in chosen]


def _predictions(
    criterion: str,
    part: str,
    model: RewardModel,
    comparisons: Sequence[Comparison],
    training: Sequence[Comparison],
    encoded: Mapping[str, Any],
    settings: RewardSettings,
    score_tokens: int,
    folds: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Rewards of the pairs that the model did not see; of the final model, which saw all, those of all pairs."""
    seen = {one.question_id for one in training}
    fold = int(part.removeprefix("fold")) if part.startswith("fold") else 0
    wanted = [one.pair() for one in comparisons if part == "final" or folds[one.question_id] == fold]
    ids = [one for each in wanted for one in each.responses]
    cut = [encoded[one].cut(settings.max_length) for one in ids]
    rewards = dict(
        zip(ids, predict(model, cut, batches_by_length([len(one.ids) for one in cut], score_tokens)), strict=True)
    )
    return [
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


def _keep(shard: Shard, model: RewardModel, tokenizer: Any, recipe: FitSettings, part: str, log: Sequence[Row]) -> None:
    """Write the model's folder: settings and log, and of a model that will score, weights and tokenizer."""
    with shard.directory(shard.id) as folder, quiet_transformers():
        if part.startswith("fold") or part == "final":
            model.network.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        described = {**recipe.settings.model_dump(), "epochs_trained": recipe.epochs, "trial": recipe.trial}
        (folder / SETTINGS_FILE).write_text(json.dumps(described, indent=1))
        (folder / LOG_FILE).write_text("".join(json.dumps(row) + "\n" for row in log))
