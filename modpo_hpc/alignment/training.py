"""The training loop: one for every method and every engine."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from modpo_hpc.alignment.batches import Step, plan_batches
from modpo_hpc.alignment.checkpoint import (
    Position,
    finish_checkpoint,
    latest_checkpoint,
    read_position,
    start_checkpoint,
)
from modpo_hpc.alignment.collator import collate
from modpo_hpc.alignment.engine import Engine
from modpo_hpc.alignment.evaluation import evaluate
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.speed import SpeedMeter
from modpo_hpc.alignment.tracking import OnRow
from modpo_hpc.errors import Interrupted, ModpoError
from modpo_hpc.methods import Trained as TrainedPolicy
from modpo_hpc.seeds import seed_of
from modpo_hpc.study.alignment import Training

_BEST = "best.pt"


class Watch(Protocol):
    """Who looks on while a policy trains: a shard, or the parent of several processes."""

    def progress(self, done: int, total: int, unit: str, **metrics: float) -> None:
        """Say how far it is."""

    def check(self) -> None:
        """Raise ``Interrupted`` when it should stop."""


@dataclass(frozen=True)
class Trained:
    """The result of a training run: the adapter's weights, the log, and where it ended."""

    weights: dict[str, Tensor]
    position: Position
    steps: int


OnEvaluation = Callable[[list[dict[str, Any]]], None]


def nothing(_: object) -> None:
    """Do nothing with the evaluations, or with a row of the log."""


class NotANumber(ModpoError):
    """The loss of a step is NaN or infinite."""


def learning_rate_at(step: int, steps: int, settings: Training) -> float:
    """Learning rate of the update number ``step`` (from 0) of ``steps``: linear warmup, then the schedule."""
    warmup = math.ceil(settings.warmup * steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[settings.schedule]
    return settings.learning_rate * shape


def evaluation_steps(steps: Sequence[Step], per_epoch: int) -> set[int]:
    """After which steps (counted from 1) the held-out questions are evaluated: evenly in each epoch, and at its end."""
    chosen: set[int] = set()
    start = 0
    for epoch in sorted({step.epoch for step in steps}):
        count = sum(step.epoch == epoch for step in steps)
        chosen |= {start + math.ceil(count * (part + 1) / per_epoch) for part in range(per_epoch)}
        start += count
    return chosen


def plan_of(examples: Sequence[Example], settings: Training, seed: int, processes: int) -> list[Step]:
    """The steps of a training run on ``examples`` (as the loss sees them)."""
    return plan_batches(
        [example.tree.tokens for example in examples],
        seed,
        settings.epochs,
        settings.batch_size,
        settings.micro_batch_size,
        processes,
    )


def plan_digest(examples: Sequence[Example], plan: Sequence[Step], settings: Training, policy: TrainedPolicy) -> str:
    """Hash of all that decides the course of a training run beside the model."""
    total = hashlib.sha256(json.dumps([settings.model_dump(), repr(policy)], default=str).encode())
    for example in examples:
        total.update(repr(example).encode())
    total.update(repr(plan).encode())
    return total.hexdigest()


def train(
    engine: Engine,
    policy: TrainedPolicy,
    training: Sequence[Example],
    held_out: Sequence[Example],
    settings: Training,
    seed: int,
    checkpoints: Path,
    watch: Watch,
    on_evaluation: OnEvaluation = nothing,
    meter: SpeedMeter | None = None,
    on_row: OnRow = nothing,
) -> Trained:
    """Train from the newest checkpoint, or from the start.

    Args:
        training: examples as the loss sees them, with reference log-probs.
        held_out: examples with the pairs of every criterion, with reference log-probs.
        seed: of batches and dropout.
        checkpoints: folder of the checkpoints, shared by all processes.
        meter: measures speed, for ``watch`` alone: no clock is in the result.
        on_evaluation: gets all evaluations so far after each one, and once more at the end; it may raise to stop.
        on_row: gets each row of the log as it is written.

    Raises:
        InputError: the checkpoint there cannot be resumed.
        Interrupted: asked to stop; the state is saved.
        NotANumber: the loss is none; says at which step, and where the state before it is.
    """
    plan = plan_of(training, settings, seed, engine.layout.processes)
    digest = plan_digest(training, plan, settings, policy)
    evaluations = evaluation_steps(plan, settings.evaluations) if held_out else set()
    position, best = Position(), dict[str, Tensor]()
    if checkpoint := latest_checkpoint(checkpoints):
        position = read_position(checkpoint, engine.layout, digest)
        engine.load(checkpoint)
        best = torch.load(checkpoint / _BEST, weights_only=True) if (checkpoint / _BEST).exists() else {}
    saved = position.step

    def save() -> None:
        nonlocal saved
        if saved == position.step:
            return
        folder = checkpoints / f"step-{position.step:08d}"
        if engine.rank == 0:
            folder = start_checkpoint(checkpoints, position.step)
        engine.total(torch.zeros(1, device=engine.device))
        engine.save(folder)
        if best and engine.rank == 0:
            torch.save(best, folder / _BEST)
        engine.total(torch.zeros(1, device=engine.device))
        if engine.rank == 0:
            finish_checkpoint(folder, engine.layout, digest, position)
        saved = position.step

    speed: dict[str, float] = {}
    while position.step < len(plan) and not position.stopped_early:
        step = plan[position.step]
        if meter:
            meter.start()
        torch.manual_seed(seed_of(seed, "dropout", position.step, engine.rank))
        try:
            rate = learning_rate_at(position.step, len(plan), settings)
            row = train_step(engine, policy, settings, training, step, rate)
        except NotANumber as error:
            raise NotANumber(
                f"step {position.step + 1} of {len(plan)}: {error} Checkpoints of earlier steps are in {checkpoints}."
            ) from None
        if meter:
            speed = meter.read([training[place].tree for rank in step.parts for part in rank for place in part])
        position.step += 1
        position.log.append({"step": position.step, "epoch": step.epoch, **row})
        on_row(position.log[-1])
        if position.step in evaluations:
            measured = evaluate(engine, policy, settings, held_out)
            position.log.append({"step": position.step, "epoch": step.epoch, **measured})
            on_row(position.log[-1])
            if _improved(position, measured["held_out_loss"], settings) and settings.early_stopping:
                best = engine.weights()
            on_evaluation(_evaluations(position))
        watch.progress(position.step, len(plan), "steps", **_shown(position.log), **speed)
        if position.step % settings.checkpoint_steps == 0 and position.step < len(plan):
            save()
        _stop_if_asked(engine, watch, save)
    on_evaluation(_evaluations(position))
    return Trained(best or engine.weights(), position, len(plan))


def train_step(
    engine: Engine,
    policy: TrainedPolicy,
    settings: Training,
    examples: Sequence[Example],
    step: Step,
    learning_rate: float,
) -> dict[str, Any]:
    """One optimizer step on the global batch ``step``; returns the row of the log: loss and metrics, means over it.

    Every pair counts the same, however the ragged end falls over processes and passes.

    Raises:
        NotANumber: the loss is none; the weights are as they were before.
    """
    engine.train(True)
    sums: dict[str, Tensor] = {}
    parts = step.parts[engine.rank]
    for number, part in enumerate(parts):
        batch = collate([examples[place] for place in part or (0,)], engine.device)
        losses, metrics = policy.loss(batch, engine.logps(batch.packed), settings)
        share = float(bool(part)) * engine.layout.processes / step.size
        engine.backward(losses.sum() * share, last=number == len(parts) - 1)
        for name, values in {"loss": losses.detach(), **metrics}.items():
            sums[name] = sums.get(name, torch.zeros((), device=engine.device)) + values.sum() * float(bool(part))
    names = sorted(sums)
    means = (engine.total(torch.stack([sums[name] for name in names])) / step.size).tolist()
    row = dict(zip(names, means, strict=True))
    if not math.isfinite(row["loss"]):
        odd = sorted({examples[place].question_id for rank in step.parts for part in rank for place in part})
        raise NotANumber(
            f"the loss is {row['loss']}; the questions of this step are {', '.join(odd[:20])}. Lower the learning rate "
            "or max_grad_norm, or raise beta; with bfloat16 weights, check that the base model itself is sound."
        )
    norm = engine.step(learning_rate)
    return {**row, "learning_rate": learning_rate, "grad_norm": norm, "examples": step.size}


def _evaluations(position: Position) -> list[dict[str, Any]]:
    return [row for row in position.log if "held_out_loss" in row]


def _improved(position: Position, loss: float, settings: Training) -> bool:
    if position.best_loss is None or loss < position.best_loss:
        position.best_loss, position.best_step, position.evaluations_without_gain = loss, position.step, 0
        return True
    position.evaluations_without_gain += 1
    position.stopped_early = 0 < settings.early_stopping <= position.evaluations_without_gain
    return False


def _shown(log: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The newest value of what ``modpo status`` shows."""
    wanted = {
        "loss": "loss",
        "accuracy": "accuracy",
        "reward_margin": "margin",
        "held_out_loss": "held_out_loss",
        "held_out_accuracy": "held_out_accuracy",
    }
    newest = {key: value for row in log[-8:] for key, value in row.items()}
    return {short: newest[name] for name, short in wanted.items() if newest.get(name) is not None}


def _stop_if_asked(engine: Engine, watch: Watch, save: Any) -> None:
    wish: Interrupted | None = None
    try:
        watch.check()
    except Interrupted as error:
        wish = error
    if float(engine.total(torch.tensor([float(wish is not None)], device=engine.device))) > 0:
        save()
        raise wish or Interrupted("asked to stop; the next attempt goes on from here")
