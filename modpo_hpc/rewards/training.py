"""The training of a reward model: what a step is, what an epoch says, and where its state lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from modpo_hpc.rewards.encoding import Encoded, shuffled_batches
from modpo_hpc.rewards.losses import bradley_terry, plackett_luce
from modpo_hpc.rewards.model import RewardModel
from modpo_hpc.rewards.records import Comparison
from modpo_hpc.seeds import rng_of, seed_of
from modpo_hpc.study.rewards import Rewards, RewardSettings
from modpo_hpc.training import Layout, Learner, OnEvaluation, Row, TrainingContext, nothing
from modpo_hpc.training import train as run_steps

_STATE = "state.pt"


class RewardLearner(Learner):
    """A reward model that learns from ``comparisons``; see ``training.Learner``.

    ``after_epoch`` gets the mean loss of its steps and returns something that JSON can hold; it is not called again for
    epochs that an interrupted attempt had finished.
    """

    layout = Layout("reward model", 1)
    remedy = "Lower rewards' learning rate or max_grad_norm; in bfloat16, try rewards.precision: float32."

    def __init__(
        self,
        model: RewardModel,
        comparisons: Sequence[Comparison],
        encoded: Mapping[str, Encoded],
        settings: RewardSettings,
        options: Rewards,
        seed: int,
        after_epoch: Callable[[float], Row] = lambda _: {},
    ) -> None:
        self._model, self._comparisons, self.settings, self.options = model, comparisons, settings, options
        self._rows = {one: encoded[one].cut(settings.max_length) for each in comparisons for one in each.responses}
        self._lengths = [max(len(self._rows[one].ids) for one in each.responses) for each in comparisons]
        self._seed, self._after_epoch = seed, after_epoch
        self._optimizer = _optimizer(model.network, settings)
        self._batches: list[list[int]] = []
        self._epoch = -1
        self.per_epoch = -(-len(comparisons) // settings.batch_size)

    def gradients(self, number: int) -> Row:
        # the draws of a step depend on its number alone: a resumed training continues with the same ones
        torch.manual_seed(seed_of(self._seed, "dropout", number))
        self._model.network.train()
        self._optimizer.zero_grad(set_to_none=True)
        batch, size, total = self._batch(number), self.options.micro_batch_size, 0.0
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            loss = comparison_loss(self._model, part, self._rows, self.options.loss) * (len(part) / len(batch))
            loss.backward()
            total += loss.item()
        return {"epoch": number // self.per_epoch + 1, "loss": total}

    def update(self, number: int) -> Row:
        rate = _rate(number, self.per_epoch * self.settings.epochs, self.options.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate
        norm = nn.utils.clip_grad_norm_(self._model.network.parameters(), self.options.max_grad_norm)
        self._optimizer.step()
        return {"grad_norm": float(norm)}

    def items(self, number: int) -> Sequence[str]:
        return sorted({one.question_id for one in self._batch(number)})

    def evaluate(self, log: Sequence[Row]) -> Row | None:
        step, epoch = log[-1]["step"], log[-1]["epoch"]
        if step % self.per_epoch:
            return None
        losses = [row["loss"] for row in log if row["epoch"] == epoch and "grad_norm" in row]
        loss = float(np.mean(losses))
        return {"epoch": epoch, "loss": loss, "result": self._after_epoch(loss)}

    def score(self, evaluation: Row) -> Sequence[float]:
        """Accuracy on held-out questions, then the loss there; where nothing is held out, nothing is better."""
        result = evaluation["result"]
        return (-result["accuracy"], result["loss"]) if "accuracy" in result else ()

    def keep_best(self) -> None:
        """A search wants the epoch, not the weights: the models that are kept are trained for so many epochs."""

    def shown(self, log: Sequence[Row]) -> dict[str, float]:
        return {"loss": log[-1]["loss"]}

    def save(self, checkpoint: Path) -> None:
        state = {"network": self._model.network.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save(state, checkpoint / _STATE)

    def load(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint / _STATE, map_location=self._model.device, weights_only=True)
        self._model.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])

    def digest(self) -> str:
        total = hashlib.sha256(json.dumps([self.settings.model_dump(), self.options.model_dump()]).encode())
        for one in self._comparisons:
            total.update(repr(one).encode())
        return total.hexdigest()

    def _batch(self, number: int) -> list[Comparison]:
        epoch, at = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            rng = rng_of(self._seed, "order", epoch)
            self._batches, self._epoch = shuffled_batches(self._lengths, self.settings.batch_size, rng), epoch
        return [self._comparisons[index] for index in self._batches[at]]


def train(
    learner: RewardLearner,
    context: TrainingContext,
    *,
    epochs: int | None = None,
    patience: int | None = None,
    on_evaluation: OnEvaluation = nothing,
) -> list[Row]:
    """Train the model of ``learner`` in place. Raises as ``training.train``.

    The learning rate rises, then falls linearly over the epochs of its settings. Training stops after ``epochs`` of
    them, or after ``patience`` of them without a better held-out accuracy.

    Returns:
        For each epoch a row: ``epoch``, ``step``, ``loss`` and, as ``result``, what ``after_epoch`` returned.
    """
    most = learner.settings.epochs
    position = run_steps(
        learner,
        learner.per_epoch * min(epochs or most, most),
        context.scratch / "checkpoints",
        context,
        checkpoint_seconds=learner.options.checkpoint_seconds,
        patience=patience,
        on_evaluation=on_evaluation,
    )
    return [{name: row[name] for name in ("epoch", "step", "loss", "result")} for row in position.evaluations]


def comparison_loss(model: RewardModel, batch: Sequence[Comparison], rows: Mapping[str, Encoded], loss: str) -> Tensor:
    """The loss of ``batch``, whose comparisons are pairs if ``loss`` is ``bradley_terry``."""
    rewards = model([rows[one] for each in batch for one in each.responses])
    if loss == "bradley_terry":
        return bradley_terry(rewards.view(len(batch), 2))
    ranked = pad_sequence(rewards.split([len(each.responses) for each in batch]), batch_first=True)
    votes = [rewards.new_tensor(each.votes) for each in batch]
    return plackett_luce(ranked, pad_sequence(votes, batch_first=True, padding_value=float("nan")))


def _optimizer(network: nn.Module, settings: RewardSettings) -> torch.optim.AdamW:
    """AdamW, fused; matrices decay, biases and norms do not."""
    parameters = [one for one in network.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in parameters if one.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [one for one in parameters if one.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _rate(step: int, total: int, warmup: float) -> float:
    rising = int(warmup * total)
    return (step + 1) / (rising + 1) if step < rising else (total - step) / (total - rising)
