"""The engine of a training run: forward, backward, step, save. Plain PyTorch here; DeepSpeed in ``sharded``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from modpo_hpc.alignment.adapter import adapter_weights, load_adapter_weights
from modpo_hpc.alignment.scorer import ResponseScorer
from modpo_hpc.alignment.trees import Packed
from modpo_hpc.study.alignment import Training
from modpo_hpc.training.checkpoint import Layout

T = TypeVar("T")
_ADAPTER, _OPTIMIZER = "adapter.pt", "optimizer.pt"


class Engine(Protocol):
    """What the training loop needs: the PEFT model ``adapted``, and one of several processes that hold it."""

    layout: Layout
    rank: int
    device: torch.device
    adapted: Any

    def train(self, training: bool) -> None:
        """Turn dropout on or off."""

    def logps(self, packed: Packed) -> Tensor:
        """The policy's log-prob of each response, (R,) fp32."""

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of ``loss``; ``last`` says that a step follows."""

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear the gradient. Returns its norm before clipping."""

    def total(self, values: Tensor) -> Tensor:
        """Sum over the processes."""

    def share(self, value: T) -> T:
        """The value that the first process gives."""

    def weights(self) -> dict[str, Tensor]:
        """The adapter's weights, whole, on the CPU."""

    def save(self, checkpoint: Path) -> None:
        """Write adapter and optimizer into ``checkpoint``."""

    def load(self, checkpoint: Path) -> None:
        """Read what ``save`` wrote."""


def adapter_parameters(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters that training changes."""
    return [one for one in module.parameters() if one.requires_grad]


def adamw(parameters: list[torch.nn.Parameter], settings: Training) -> torch.optim.AdamW:
    """AdamW with the settings of ``settings``."""
    return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)


class PlainEngine:
    """One process, plain PyTorch."""

    layout = Layout("plain", 1)
    rank = 0

    def __init__(self, adapted: Any, settings: Training, device: torch.device) -> None:
        self.adapted, self.device = adapted, device
        self.scorer = ResponseScorer(adapted)
        self._parameters = adapter_parameters(self.scorer)
        self._optimizer = adamw(self._parameters, settings)
        self._max_norm = settings.max_grad_norm

    def train(self, training: bool) -> None:
        self.scorer.train(training)

    def logps(self, packed: Packed) -> Tensor:
        logps: Tensor = self.scorer(packed)
        return logps

    def backward(self, loss: Tensor, last: bool) -> None:
        loss.backward()

    def step(self, learning_rate: float) -> float:
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._max_norm))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        return norm

    def total(self, values: Tensor) -> Tensor:
        return values

    def share(self, value: T) -> T:
        return value

    def weights(self) -> dict[str, Tensor]:
        return adapter_weights(self.adapted)

    def gradients(self) -> Tensor:
        """The gradient of the adapter as one vector; clears it."""
        flat = torch.cat(
            [one.grad.flatten() if one.grad is not None else one.new_zeros(one.numel()) for one in self._parameters]
        )
        self._optimizer.zero_grad()
        return flat

    def save(self, checkpoint: Path) -> None:
        torch.save(self.weights(), checkpoint / _ADAPTER)
        torch.save(self._optimizer.state_dict(), checkpoint / _OPTIMIZER)

    def load(self, checkpoint: Path) -> None:
        load_adapter_weights(self.adapted, torch.load(checkpoint / _ADAPTER, weights_only=True), checkpoint)
        state = torch.load(checkpoint / _OPTIMIZER, weights_only=True, map_location=self.device)
        self._optimizer.load_state_dict(state)
