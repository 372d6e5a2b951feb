"""The engine of a training run: forward, backward, step, save. Plain PyTorch here; DeepSpeed in ``sharded``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from modpo_hpc.alignment.adapter import adapter_weights, load_adapter_weights
from modpo_hpc.alignment.one_kernel import one_kernel_is_wanted
from modpo_hpc.alignment.processes import ALONE, ProcessRank
from modpo_hpc.alignment.scorer import ResponseScorer
from modpo_hpc.alignment.trees import PackedTrees
from modpo_hpc.study.alignment import Training
from modpo_hpc.training.checkpoint import Layout

T = TypeVar("T")
_ADAPTER, _OPTIMIZER = "adapter.pt", "optimizer.pt"


class TrainingEngine(ABC):
    """What the training loop needs: the PEFT model ``adapted``, and one of several processes that hold it.

    A subclass sets ``_module``: its ``ResponseScorer``, as it is called.
    """

    layout: Layout
    rank: int
    device: torch.device
    adapted: Any
    may_split: bool
    """Whether a pass may be taken in parts by this process alone."""
    too_many_tokens = math.inf
    """A pass of so many did not fit the card."""
    _module: torch.nn.Module

    def train(self, training: bool) -> None:
        """Turn dropout on or off."""
        self._module.train(training)

    def logps(self, packed: PackedTrees, as_sequences: bool = False) -> Tensor:
        """The policy's log-prob of each response, (R,) fp32; see ``scorer.ResponseScorer``."""
        return self._module(packed, as_sequences)

    @abstractmethod
    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of ``loss``; ``last`` says that a step follows."""

    @abstractmethod
    def step(self, learning_rate: float) -> float:
        """Clip, update, clear the gradient. Returns its norm before clipping."""

    def total(self, values: Tensor) -> Tensor:
        """Sum over the processes."""
        if self.layout.processes == 1:
            return values
        summed = values.clone()
        torch.distributed.all_reduce(summed)
        return summed

    def share(self, value: T) -> T:
        """The value that the first process gives."""
        if self.layout.processes == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def weights(self) -> dict[str, Tensor]:
        """The adapter's weights, whole, on the CPU."""
        return adapter_weights(self.adapted)

    @abstractmethod
    def save(self, checkpoint: Path) -> None:
        """Write adapter and optimizer into ``checkpoint``."""

    @abstractmethod
    def load(self, checkpoint: Path) -> None:
        """Read what ``save`` wrote."""


def adapter_parameters(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters that training changes."""
    return [one for one in module.parameters() if one.requires_grad]


def adamw(parameters: list[torch.nn.Parameter], settings: Training, device: torch.device) -> torch.optim.AdamW:
    """AdamW with the settings of ``settings``, in one kernel on a GPU."""
    fused = True if device.type == "cuda" else None
    return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=fused)


class PlainEngine(TrainingEngine):
    """Plain PyTorch; of several processes each holds the whole model, and they sum the adapter's gradients."""

    may_split = True

    def __init__(self, adapted: Any, settings: Training, device: torch.device, process: ProcessRank = ALONE) -> None:
        self.adapted, self.device = adapted, device
        self.layout, self.rank = Layout("plain", process.world_size), process.rank
        self.scorer = self._module = ResponseScorer(adapted)
        self.scorer.one_kernel = one_kernel_is_wanted()
        self._parameters = adapter_parameters(self.scorer)
        self._optimizer = adamw(self._parameters, settings, device)
        self._max_norm = settings.max_grad_norm

    def backward(self, loss: Tensor, last: bool) -> None:
        # not loss.backward(): what runs out of memory there leaves the gradients of some layers behind
        found = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        for parameter, gradient in zip(self._parameters, found, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

    def step(self, learning_rate: float) -> float:
        if self.layout.processes > 1:
            # the losses are scaled for the mean over the processes; an adapter is small, one message holds it
            self.set_gradient(self.total(self.gradients()) / self.layout.processes)
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._max_norm))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        return norm

    def gradients(self) -> Tensor:
        """The gradient of the adapter as one vector; clears it."""
        flat = torch.cat(
            [one.grad.flatten() if one.grad is not None else one.new_zeros(one.numel()) for one in self._parameters]
        )
        self._optimizer.zero_grad()
        return flat

    def set_gradient(self, flat: Tensor) -> None:
        """Take ``flat``, the same in every process, as the gradient of the step."""
        sizes = [one.numel() for one in self._parameters]
        for parameter, part in zip(self._parameters, flat.split(sizes), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def save(self, checkpoint: Path) -> None:
        if self.rank > 0:
            return
        torch.save(self.weights(), checkpoint / _ADAPTER)
        torch.save(self._optimizer.state_dict(), checkpoint / _OPTIMIZER)

    def load(self, checkpoint: Path) -> None:
        load_adapter_weights(self.adapted, torch.load(checkpoint / _ADAPTER, weights_only=True), checkpoint)
        state = torch.load(checkpoint / _OPTIMIZER, weights_only=True, map_location=self.device)
        self._optimizer.load_state_dict(state)
