"""The search of a policy's settings: its space, what one trial does, and the settings that won."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from modpo_hpc.alignment.start import train_policy
from modpo_hpc.errors import InputError
from modpo_hpc.run import Run, Shard
from modpo_hpc.search import Objective, RunningTrial, Trial, best_complete, folder_of_trial
from modpo_hpc.study.alignment import PolicySearch, Training
from modpo_hpc.training import Row, TrainingContext

STAGE = "policy_trials"
TRIALS = pa.schema(
    [
        ("policy", pa.string()),
        ("trial", pa.int32()),
        ("state", pa.string()),
        ("accuracy", pa.float64()),
        ("loss", pa.float64()),
        ("steps", pa.int32()),
        ("curve", pa.list_(pa.float64())),
        ("settings", pa.string()),
    ]
)


def space_of(search: PolicySearch) -> dict[str, BaseDistribution]:
    """The study's search space as Optuna's distributions."""
    return {
        "learning_rate": FloatDistribution(*search.learning_rate, log=True),
        "beta": FloatDistribution(*search.beta, log=True),
        "lora_rank": CategoricalDistribution(search.lora_rank),
        "lora_alpha": CategoricalDistribution(search.lora_alpha),
        "lora_dropout": FloatDistribution(*search.lora_dropout),
        "micro_batch_size": CategoricalDistribution(search.micro_batch_size),
        "gradient_accumulation": CategoricalDistribution(search.gradient_accumulation),
        "epochs": IntDistribution(*search.epochs),
    }


def settings_of(run: Run, policy: str, params: dict[str, Any]) -> Training:
    """The settings of a trial: those of ``policy``, with ``params`` in their place.

    ``gradient_accumulation`` counts the passes of a step; it becomes the batch size.
    """
    rest = dict(params)
    batch = rest["micro_batch_size"] * rest.pop("gradient_accumulation")
    return run.study.alignment.training_of(policy, batch_size=batch, **rest)


def objective(run: Run, shard: Shard, policy: str) -> Objective:
    """What a trial is: the policy trained with its settings; its value is the held-out accuracy.

    Accuracy compares across beta, which the loss does not.

    Raises:
        InputError: the policy holds out no questions.
    """

    def compute(trial: RunningTrial) -> float:
        settings = settings_of(run, policy, trial.params)
        if settings.held_out == 0:
            raise InputError(
                "a search needs held-out questions",
                field="alignment.training.held_out",
                value=0.0,
                remedy="Set it above zero, for instance 0.1.",
            )
        with folder_of_trial(run, shard, trial.number) as folder:
            context = TrainingContext(folder, shard.check, shard.progress)

            def report(measured: list[Row], ended: bool) -> None:
                row = measured[-1]
                trial.facts.update(accuracy=row["held_out_accuracy"], loss=row["held_out_loss"], steps=row["step"])
                trial.follow([one["held_out_accuracy"] for one in measured], ended)

            trained = train_policy(run, policy, settings, context, shard.stage.resources(run.study), report)
            if trained is None:
                raise InputError(
                    "a search runs each trial from one process",
                    field="launcher",
                    remedy="Use the launcher python; a trial starts its own processes.",
                )
            return float(trial.facts["accuracy"])

    return compute


def trial_row(run: Run, policy: str, trial: Trial) -> dict[str, Any]:
    """The row of ``TRIALS`` for a finished trial."""
    return {
        "policy": policy,
        "trial": trial.number,
        "state": "pruned" if trial.pruned else "complete",
        "accuracy": trial.facts["accuracy"],
        "loss": trial.facts["loss"],
        "steps": trial.facts["steps"],
        "curve": [trial.curve[step] for step in sorted(trial.curve)],
        "settings": json.dumps(settings_of(run, policy, trial.params).model_dump(mode="json"), sort_keys=True),
    }


def chosen_settings(run: Run, policy: str) -> Training:
    """The settings of the complete trial of highest accuracy (then lowest loss); the study's if there is no search."""
    if run.study.alignment.search.trials == 0:
        return run.study.alignment.training_of(policy)
    best = best_complete([row for row in run.table(STAGE).to_pylist() if row["policy"] == policy])
    return Training.model_validate(json.loads(best["settings"]))
