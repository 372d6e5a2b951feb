"""The training of one reward model: deterministic, and resumed with the same bytes after any interruption."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modpo_hpc import shards
from modpo_hpc.errors import Interrupted
from modpo_hpc.rewards.encoding import Encoded, shuffled_batches
from modpo_hpc.rewards.losses import bradley_terry, plackett_luce
from modpo_hpc.rewards.model import RewardModel
from modpo_hpc.rewards.records import Comparison
from modpo_hpc.seeds import rng_of, seed_of
from modpo_hpc.study.rewards import Rewards, RewardSettings

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"


@dataclass(frozen=True)
class Workplace:
    """Where a training keeps what its successor resumes from, and whom it tells how far it is."""

    folder: Path
    check: Callable[[], None] = lambda: None
    progress: Callable[..., None] = lambda *_, **__: None


@dataclass(frozen=True)
class Epoch:
    """One pass over the training comparisons; ``number`` counts from 1; ``loss`` is the mean over its steps."""

    number: int
    loss: float


@dataclass
class _State:
    step: int = 0
    losses: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)


def train(
    model: RewardModel,
    comparisons: Sequence[Comparison],
    encoded: Mapping[str, Encoded],
    settings: RewardSettings,
    options: Rewards,
    seed: int,
    place: Workplace,
    *,
    epochs: int | None = None,
    after_epoch: Callable[[Epoch], Any] = lambda _: None,
    ends_here: Callable[[list[Any]], bool] = lambda _: False,
) -> list[Any]:
    """Train ``model`` in place.

    The learning rate rises, then falls linearly over ``settings.epochs``. Training stops after ``epochs`` of them, or
    when ``ends_here``, given what ``after_epoch`` returned for every epoch so far, says so (``after_epoch`` returns
    something that JSON can hold, and is not called again for epochs that an interrupted attempt had finished).

    Returns:
        What ``after_epoch`` returned, by epoch.

    Raises:
        Interrupted: asked to stop; a checkpoint is in ``place``.
    """
    rows = {one: encoded[one].cut(settings.max_length) for each in comparisons for one in each.responses}
    lengths = [max(len(rows[one].ids) for one in each.responses) for each in comparisons]
    per_epoch = -(-len(comparisons) // settings.batch_size)
    total = per_epoch * settings.epochs
    optimizer = _optimizer(model.network, settings)
    state = _restore(place.folder, model, optimizer)
    batches: list[list[int]] = []
    saved_at, stop = time.monotonic(), per_epoch * min(epochs or settings.epochs, settings.epochs)
    with shards.Journal(place.folder / LOG) as log:
        while state.step < stop and not (state.step % per_epoch == 0 and ends_here(state.results)):
            epoch, at = divmod(state.step, per_epoch)
            if at == 0 or not batches:
                batches = shuffled_batches(lengths, settings.batch_size, rng_of(seed, "order", epoch))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate(state.step, total, options.warmup)
            # the draws of a step depend on its number alone: a resumed training continues with the same ones
            torch.manual_seed(seed_of(seed, "dropout", state.step))
            model.network.train()
            loss = _step(model, [comparisons[index] for index in batches[at]], rows, options, optimizer)
            state.step += 1
            state.losses.append(loss)
            if state.step % per_epoch == 0:
                done = Epoch(epoch + 1, float(np.mean(state.losses)))
                state.results.append(after_epoch(done))
                log.append([{"epoch": done.number, "step": state.step, "loss": done.loss, "result": state.results[-1]}])
                state.losses = []
            place.progress(state.step, stop, "steps", loss=loss)
            saved_at = _save_in_time(place, model, optimizer, state, saved_at, options.checkpoint_seconds)
    return state.results


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The log of a training, by epoch; what a killed attempt had written twice is the same twice."""
    with shards.Journal(folder / LOG) as log:
        return [row for _, row in sorted({row["step"]: row for row in log.rows}.items())]


def _step(
    model: RewardModel,
    batch: Sequence[Comparison],
    rows: Mapping[str, Encoded],
    options: Rewards,
    optimizer: torch.optim.Optimizer,
) -> float:
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for start in range(0, len(batch), options.micro_batch):
        part = batch[start : start + options.micro_batch]
        loss = comparison_loss(model, part, rows, options.loss) * (len(part) / len(batch))
        loss.backward()
        total += loss.item()
    nn.utils.clip_grad_norm_(model.network.parameters(), options.max_grad_norm)
    optimizer.step()
    return total


def comparison_loss(model: RewardModel, batch: Sequence[Comparison], rows: Mapping[str, Encoded], loss: str) -> Tensor:
    """The loss of ``batch``, whose comparisons are pairs if ``loss`` is ``bradley_terry``."""
    rewards = model([rows[one] for each in batch for one in each.responses])
    if loss == "bradley_terry":
        return bradley_terry(rewards.view(len(batch), 2))
    width = max(len(each.responses) for each in batch)
    places = [(row, column) for row, each in enumerate(batch) for column in range(len(each.responses))]
    index = torch.tensor([row * width + column for row, column in places], device=rewards.device)
    flat = rewards.new_zeros(len(batch) * width).index_copy(0, index, rewards)
    votes = [[*each.votes, *[float("nan")] * (width - len(each.votes))] for each in batch]
    return plackett_luce(flat.view(len(batch), width), torch.tensor(votes, device=rewards.device))


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


def _save_in_time(
    place: Workplace,
    model: RewardModel,
    optimizer: torch.optim.Optimizer,
    state: _State,
    saved_at: float,
    seconds: float,
) -> float:
    try:
        place.check()
    except Interrupted:
        _save(place.folder, model, optimizer, state)
        raise
    if time.monotonic() - saved_at < seconds:
        return saved_at
    _save(place.folder, model, optimizer, state)
    return time.monotonic()


def _save(folder: Path, model: RewardModel, optimizer: torch.optim.Optimizer, state: _State) -> None:
    content = {"network": model.network.state_dict(), "optimizer": optimizer.state_dict(), "state": vars(state)}
    with shards.atomic_file(folder / CHECKPOINT) as stream:
        torch.save(content, stream)


def _restore(folder: Path, model: RewardModel, optimizer: torch.optim.Optimizer) -> _State:
    if not os.path.exists(folder / CHECKPOINT):
        return _State()
    content = torch.load(folder / CHECKPOINT, map_location=model.device, weights_only=True)
    model.network.load_state_dict(content["network"])
    optimizer.load_state_dict(content["optimizer"])
    return _State(**content["state"])
