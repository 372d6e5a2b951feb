"""The training of a policy: what a step is, when it is measured, and where its state lies."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
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
from modpo_hpc.training import Learner, Row

_BEST, _MIXTURE = "best.pt", "mixture.pt"


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


class PolicyLearner(Learner):
    """An adapter that learns by the loss of ``policy``; see ``training.Learner``.

    Args:
        training: examples as the loss sees them, with reference log-probs.
        held_out: examples with the pairs of every criterion, with reference log-probs.
        seed: of batches and dropout.
        meter: measures speed, for what is shown alone: no clock is in the log.
        objectives: names of those whose gradients ``policy`` takes apart.
    """

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
        self.plan = plan_batches(
            [example.tree.tokens for example in training],
            seed,
            settings.epochs,
            settings.batch_size,
            settings.micro_batch_size,
            engine.layout.processes,
            settings.pass_tokens,
        )
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
            self._speed = self._meter.read([self._training[place].tree for place in step.places])
        return {"learning_rate": rate, "grad_norm": norm, "examples": len(step.places)}

    def items(self, number: int) -> Sequence[str]:
        return sorted({self._training[place].question_id for place in self.plan[number].places})

    def evaluate(self, log: Sequence[Row]) -> Row | None:
        if log[-1]["step"] not in self._evaluations:
            return None
        return {"epoch": log[-1]["epoch"], **evaluate(self._engine, self._policy, self._settings, self._held_out)}

    def score(self, evaluation: Row) -> Sequence[float]:
        return (evaluation["held_out_loss"],)

    def keep_best(self) -> None:
        self.best = self._engine.weights()

    def shown(self, log: Sequence[Row]) -> dict[str, float]:
        wanted = ("loss", "accuracy", "reward_margin", "held_out_loss", "held_out_accuracy")
        newest = {key: value for row in log[-8:] for key, value in row.items()}
        known = {name.removeprefix("reward_"): newest[name] for name in wanted if newest.get(name) is not None}
        return {**known, **self._speed}

    def total(self, values: Sequence[float]) -> list[float]:
        return self._engine.total(torch.tensor(values, device=self._engine.device)).tolist()

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

    def digest(self) -> str:
        total = hashlib.sha256(json.dumps([self._settings.model_dump(), repr(self._policy)], default=str).encode())
        for example in self._training:
            total.update(repr(example).encode())
        total.update(repr(self.plan).encode())
        return total.hexdigest()


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
        share = float(bool(part)) * engine.layout.processes / len(step.places)
        found = pass_gradients(engine, policy, settings, taken, share, last=number == len(parts) - 1)
        for name, value in found.items():
            sums[name] = sums.get(name, torch.zeros((), device=engine.device)) + value * float(bool(part))
    names = sorted(sums)
    means = (engine.total(torch.stack([sums[name] for name in names])) / len(step.places)).tolist()
    return dict(zip(names, means, strict=True))
