"""Speed of training on real tokens, and how much of the device's arithmetic it uses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modpo_hpc.alignment.trees import Tree

# Dense bf16 peaks in FLOP/s, from the makers' data sheets; the first name found in the device's name counts.
_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


@dataclass(frozen=True)
class ModelCost:
    """What a token costs: weights of the frozen and of the adapter's linear layers, and attention.

    Attributes:
        body, head: weights of the linear layers without and of the output head; the head sees response tokens only.
        adapter: weights of the adapter.
        attention: layers x heads x width of a head.
    """

    body: int
    head: int
    adapter: int
    attention: int

    def training_flops(self, tree: Tree) -> float:
        """FLOPs that a LoRA step needs for ``tree``: forward, gradients of activations, gradients of the adapter.

        A linear layer of w weights takes 2w a token forward and 2w for the activations' gradient; only the adapter's
        weights have a gradient of their own. Recomputation, padding and second copies of a prompt do not count.
        """
        outputs = sum(map(len, tree.responses))
        linear = 4 * (self.body * tree.tokens + self.head * outputs) + 6 * self.adapter * tree.tokens
        return linear + 3 * 4 * self.attention * _looks(tree)


def cost_of(adapted: Any) -> ModelCost:
    """The costs of a PEFT model around a transformers causal LM (weights may be spread over processes)."""
    model = adapted.get_base_model()
    config = model.config
    head = model.get_output_embeddings()
    linear = {id(one) for one in head.modules()}
    body = adapter = head_weights = 0
    for name, module in adapted.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        size = module.in_features * module.out_features
        if "lora_" in name:
            adapter += size
        elif id(module) in linear:
            head_weights += size
        else:
            body += size
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return ModelCost(body, head_weights, adapter, config.num_hidden_layers * config.num_attention_heads * width)


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 peak of ``device``; None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in _PEAKS.items() if known in name), None)


class SpeedMeter:
    """Tokens a second, and the share of the peak that needed FLOPs take, over the steps since the last reading."""

    def __init__(self, cost: ModelCost, peak: float | None, processes: int) -> None:
        self._cost, self._peak, self._processes = cost, peak, processes
        self._since = time.perf_counter()

    def start(self) -> None:
        """Count from now."""
        self._since = time.perf_counter()

    def read(self, trees: Sequence[Tree]) -> dict[str, float]:
        """The speed of a step that computed ``trees``, over all processes."""
        now = time.perf_counter()
        seconds, self._since = max(now - self._since, 1e-9), now
        found = {"tokens_per_second": sum(tree.tokens for tree in trees) / seconds}
        if self._peak:
            flops = sum(map(self._cost.training_flops, trees))
            found["flop_use"] = flops / seconds / self._peak / self._processes
        return found


def _looks(tree: Tree) -> float:
    """Pairs of query and key in the causal attention of ``tree``."""
    root = len(tree.prompt)
    inner = [len(response) - 1 for response in tree.responses]
    return root * (root + 1) / 2 + sum(one * root + one * (one + 1) / 2 for one in inner)
