"""A reward model: a sequence classifier with one output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from modpo_hpc.device import compute_device
from modpo_hpc.errors import InputError
from modpo_hpc.rewards.encoding import Encoded, batches_by_length, collate
from modpo_hpc.rewards.records import Comparison

_HEADS = ("classifier", "score", "classification_head")
UNBOUNDED = 10**6


class RewardModel:
    """A classifier, its tokenizer's padding, and where it runs."""

    def __init__(self, network: PreTrainedModel, pad_id: int, device: torch.device, precision: str) -> None:
        self.network, self.pad_id, self.device = network, pad_id, device
        nn.Module.to(network, device)
        self._half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
        if self._half:
            _keep_head_in_float32(network, device.type)

    def __call__(self, rows: Sequence[Encoded]) -> Tensor:
        """Rewards of ``rows``, float32 of shape (rows,), with gradients."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            logits: Tensor = self.network(**collate(rows, self.pad_id, self.device)).logits
        return logits[:, 0].float()


def load_tokenizer(path: str | Path) -> Any:
    """The fast tokenizer in ``path``, with a padding token.

    Raises:
        InputError: it has neither a padding token nor one for the end of a text.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(path))
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InputError("this tokenizer has no padding token", file=path, remedy="Add a pad_token to its files.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def longest_input(path: str | Path, tokenizer: Any) -> int:
    """How many tokens the model in ``path`` can read at once."""
    if tokenizer.model_max_length < UNBOUNDED:
        return int(tokenizer.model_max_length)
    return int(getattr(AutoConfig.from_pretrained(str(path)), "max_position_embeddings", UNBOUNDED))


def load_reward_model(
    path: str | Path,
    pad_id: int,
    *,
    dropout: float | None = None,
    seed: int = 0,
    precision: str = "auto",
    gradient_checkpointing: bool = False,
    device: torch.device | None = None,
) -> RewardModel:
    """The classifier in ``path``, or the encoder there with a new head drawn from ``seed``.

    ``dropout`` is set everywhere: hidden layers, attention and head.

    Raises:
        InputError: the model has no dropout to set.
    """
    config = AutoConfig.from_pretrained(str(path))
    config.num_labels, config.pad_token_id = 1, pad_id
    if dropout is not None:
        for name, value in config.to_dict().items():
            if ("dropout" in name or name.endswith("pdrop")) and (value is None or isinstance(value, float)):
                setattr(config, name, dropout)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoModelForSequenceClassification.from_pretrained(str(path), config=config, dtype=torch.float32)
    if dropout is not None:
        _require_dropout(network, dropout, path)
    if gradient_checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return RewardModel(network, pad_id, device or compute_device(), precision)


@torch.inference_mode()
def predict(model: RewardModel, rows: Sequence[Encoded], batches: Sequence[Sequence[int]]) -> list[float]:
    """Rewards of ``rows``, computed in ``batches`` of their indices, in the order of ``rows``."""
    model.network.eval()
    rewards = [0.0] * len(rows)
    for batch in batches:
        for index, reward in zip(batch, model([rows[index] for index in batch]).tolist(), strict=True):
            rewards[index] = reward
    return rewards


def rewards_of_pairs(
    model: RewardModel, comparisons: Sequence[Comparison], encoded: Mapping[str, Encoded], max_length: int, tokens: int
) -> dict[str, float]:
    """Rewards of the best and the worst response of each comparison, by id, in batches of ``tokens`` at most."""
    ids = [one for each in comparisons for one in each.pair().responses]
    rows = [encoded[one].cut(max_length) for one in ids]
    batches = batches_by_length([len(row.ids) for row in rows], tokens)
    return dict(zip(ids, predict(model, rows, batches), strict=True))


def _require_dropout(network: nn.Module, dropout: float, path: str | Path) -> None:
    found = {
        name: float(module.p)
        for name, module in network.named_modules()
        if isinstance(getattr(module, "p", None), float)
    }
    other = {name: value for name, value in found.items() if value != dropout}
    if other or (dropout > 0 and not found):
        shown = ", ".join(f"{name}={value}" for name, value in list(other.items())[:3]) or "it has none"
        raise InputError(
            f"the dropout of this model cannot be set to {dropout} ({shown})",
            file=path,
            field="rewards.search.dropout",
            remedy="Take an encoder whose configuration sets its dropout, or search dropout [0, 0].",
        )


def _keep_head_in_float32(network: nn.Module, device_type: str) -> None:
    """Rewards in bfloat16 would have three digits, and close ones would tie."""
    for name in _HEADS:
        head = getattr(network, name, None)
        if head is not None:
            head.forward = _in_float32(head.forward, device_type)


def _in_float32(forward: Any, device_type: str) -> Any:
    def wide(features: Tensor, *arguments: Any, **named: Any) -> Tensor:
        with torch.autocast(device_type, enabled=False):
            return forward(features.float(), *arguments, **named)

    return wide


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """A new head is what is wanted here, and the progress of loading is our own to show."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
