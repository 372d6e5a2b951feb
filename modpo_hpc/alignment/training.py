"""The training of a policy: what a step is, when it is measured, and where its state lies."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from modpo_hpc.alignment.apart import Objective, put_together
from modpo_hpc.alignment.batches import OptimizerStep, plan_batches
from modpo_hpc.alignment.engine import PlainEngine, TrainingEngine
from modpo_hpc.alignment.evaluation import evaluate
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.passes import HasLoss, pass_gradients
from modpo_hpc.alignment.speed import SpeedMeter
from modpo_hpc.methods import Trained as TrainedPolicy
from modpo_hpc.seeds import seed_of
from modpo_hpc.study.alignment import Training
from modpo_hpc.training import OnEvaluation, OnRow, Position, Row, Watch, nothing
from modpo_hpc.training import train as run_steps

_BEST, _MIXTURE = "best.pt", "mixture.pt"


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run: the adapter's weights, the log, and where it ended."""

    weights: dict[str, Tensor]
    position: Position
    steps: int


def learning_rate_at(step: int, steps: int, settings: Training) -> float:
    """Learning rate of the update number ``step`` (from 0) of ``steps``: linear warmup, then the schedule."""
    warmup = math.ceil(settings.warmup * steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[settings.schedule]
    return settings.learning_rate * shape


def evaluation_steps(steps: Sequence[OptimizerStep], per_epoch: int) -> set[int]:
    """After which steps (counted from 1) the held-out questions are evaluated: evenly in each epoch, and at its end."""
    chosen: set[int] = set()
    start = 0
    for epoch in sorted({step.epoch for step in steps}):
        count = sum(step.epoch == epoch for step in steps)
        chosen |= {start + math.ceil(count * (part + 1) / per_epoch) for part in range(per_epoch)}
        start += count
    return chosen


def plan_of(examples: Sequence[Example], settings: Training, seed: int, processes: int) -> list[OptimizerStep]:
    """The steps of a training run on ``examples`` (as the loss sees them)."""
    return plan_batches(
        [example.tree.tokens for example in examples],
        seed,
        settings.epochs,
        settings.batch_size,
        settings.micro_batch_size,
        processes,
        settings.pass_tokens,
    )


def plan_digest(
    examples: Sequence[Example], plan: Sequence[OptimizerStep], settings: Training, policy: TrainedPolicy
) -> str:
    """Hash of all that decides the course of a training run beside the model."""
    total = hashlib.sha256(json.dumps([settings.model_dump(), repr(policy)], default=str).encode())
    for example in examples:
        total.update(repr(example).encode())
    total.update(repr(plan).encode())
    return total.hexdigest()


class PolicyLearner:
    """An adapter that learns by the loss of ``policy``; see ``training.Learner``."""

    remedy = (
        "Lower the learning rate or max_grad_norm, or raise beta; with bfloat16 weights, check that the base model "
        "itself is sound."
    )

    def __init__(
        self,
        engine: TrainingEngine,
        policy: TrainedPolicy,
        settings: Training,
        training: Sequence[Example],
        held_out: Sequence[Example],
        seed: int,
        meter: SpeedMeter | None,
        objectives: tuple[str, ...] = (),
    ) -> None:
        self.layout, self.rank = engine.layout, engine.rank
        self.plan = plan_of(training, settings, seed, engine.layout.processes)
        self.best: dict[str, Tensor] = {}
        self._objectives = objectives
        self._mixture: Tensor | None = None
        self._engine, self._policy, self._settings, self._seed = engine, policy, settings, seed
        self._training, self._held_out, self._meter = training, held_out, meter
        self._evaluations = evaluation_steps(self.plan, settings.evaluations) if held_out else set()
        self._speed: dict[str, float] = {}

    def gradients(self, number: int) -> Row:
        step = self.plan[number]
        if self._meter:
            self._meter.start()
        if self._policy.gradients_apart:
            return {"epoch": step.epoch, **self._gradients_apart(number)}
        torch.manual_seed(seed_of(self._seed, "dropout", number, self.rank))
        policy = self._policy.in_step(self._seed, number)
        policy.set_up(self._engine.adapted)
        means = step_gradients(self._engine, policy, self._settings, self._training, step)
        return {"epoch": step.epoch, **means}

    def _gradients_apart(self, number: int) -> dict[str, float]:
        assert isinstance(self._engine, PlainEngine), "the study refuses DeepSpeed for such methods"
        gradients, means = [], []
        for place in range(len(self._objectives)):
            torch.manual_seed(seed_of(self._seed, "dropout", number, self.rank))
            alone = Objective(self._policy, place)
            self._policy.set_up_objective(self._engine.adapted, place)
            means.append(step_gradients(self._engine, alone, self._settings, self._training, self.plan[number]))
            gradients.append(self._engine.gradients())
        self._mixture, row = put_together(self._engine, self._policy, self._objectives, gradients, means, self._mixture)
        return row

    def update(self, number: int) -> Row:
        step, rate = self.plan[number], learning_rate_at(number, len(self.plan), self._settings)
        norm = self._engine.step(rate)
        if self._meter:
            self._speed = self._meter.read(
                [self._training[place].tree for rank in step.parts for part in rank for place in part]
            )
        return {"learning_rate": rate, "grad_norm": norm, "examples": step.size}

    def items(self, number: int) -> Sequence[str]:
        places = (place for rank in self.plan[number].parts for part in rank for place in part)
        return sorted({self._training[place].question_id for place in places})

    def evaluate(self, log: Sequence[Row]) -> Row | None:
        if log[-1]["step"] not in self._evaluations:
            return None
        return {"epoch": log[-1]["epoch"], **evaluate(self._engine, self._policy, self._settings, self._held_out)}

    def score(self, evaluation: Row) -> Sequence[float]:
        return (evaluation["held_out_loss"],)

    def keep_best(self) -> None:
        self.best = self._engine.weights()

    def shown(self, log: Sequence[Row]) -> dict[str, float]:
        wanted = {
            "loss": "loss",
            "accuracy": "accuracy",
            "reward_margin": "margin",
            "held_out_loss": "held_out_loss",
            "held_out_accuracy": "held_out_accuracy",
        }
        newest = {key: value for row in log[-8:] for key, value in row.items()}
        known = {short: newest[name] for name, short in wanted.items() if newest.get(name) is not None}
        return {**known, **self._speed}

    def total(self, values: Sequence[float]) -> list[float]:
        summed: list[float] = self._engine.total(torch.tensor(values, device=self._engine.device)).tolist()
        return summed

    def save(self, checkpoint: Path) -> None:
        self._engine.save(checkpoint)
        if self.best and self.rank == 0:
            torch.save(self.best, checkpoint / _BEST)
        if self._mixture is not None and self.rank == 0:
            torch.save(self._mixture, checkpoint / _MIXTURE)

    def load(self, checkpoint: Path) -> None:
        self._engine.load(checkpoint)
        self.best = torch.load(checkpoint / _BEST, weights_only=True) if (checkpoint / _BEST).exists() else {}
        if (checkpoint / _MIXTURE).exists():
            self._mixture = torch.load(checkpoint / _MIXTURE, weights_only=True)


def train(
    engine: TrainingEngine,
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
    objectives: tuple[str, ...] = (),
) -> TrainingResult:
    """Train from the newest checkpoint, or from the start. Raises as ``training.train``.

    Args:
        training: examples as the loss sees them, with reference log-probs.
        held_out: examples with the pairs of every criterion, with reference log-probs.
        seed: of batches and dropout.
        checkpoints: folder of the checkpoints, shared by all processes.
        meter: measures speed, for ``watch`` alone: no clock is in the result.
        objectives: names of those whose gradients ``policy`` takes apart.
    """
    learner = PolicyLearner(engine, policy, settings, training, held_out, seed, meter, objectives)
    position = run_steps(
        learner,
        len(learner.plan),
        plan_digest(training, learner.plan, settings, policy),
        checkpoints,
        watch,
        checkpoint_seconds=settings.checkpoint_seconds,
        patience=settings.patience,
        on_evaluation=on_evaluation,
        on_row=on_row,
    )
    return TrainingResult(learner.best or engine.weights(), position, len(learner.plan))


def step_gradients(
    engine: TrainingEngine, policy: HasLoss, settings: Training, examples: Sequence[Example], step: OptimizerStep
) -> dict[str, float]:
    """The gradients of the global batch ``step``, in ``engine``; returns its loss and metrics, means over it.

    Every pair counts the same, however the ragged end falls over processes and passes.
    """
    engine.train(True)
    sums: dict[str, Tensor] = {}
    parts = step.parts[engine.rank]
    for number, part in enumerate(parts):
        taken = [examples[place] for place in part or (0,)]
        share = float(bool(part)) * engine.layout.processes / step.size
        found = pass_gradients(engine, policy, settings, taken, share, last=number == len(parts) - 1)
        for name, value in found.items():
            sums[name] = sums.get(name, torch.zeros((), device=engine.device)) + value * float(bool(part))
    names = sorted(sums)
    means = (engine.total(torch.stack([sums[name] for name in names])) / step.size).tolist()
    return dict(zip(names, means, strict=True))
