"""An adapter whose update depends on the weights of the criteria.

For weights w (shares of one) the update of a layer is ``B C(w) A``, where A (rank, in) and B (out, rank) hold the
factors of all sources and the core is a form of second degree in the weights::

    C(w) = sum_k w_k C_k + sum_{k<l} w_k w_l D_kl

C_k begins as the scale of source k on its own block and zero elsewhere, D_kl as zero: the adapter begins as the exact
soup of its sources, whatever the weights. At w = 0 the model is the base model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modpo_hpc.alignment.adapter import (
    Adapter,
    OwnAdapter,
    adapter_config,
    adapter_weights,
    attach_adapter,
    read_files,
)
from modpo_hpc.alignment.dropped import dropped_linear
from modpo_hpc.alignment.soup import Source, as_source, common_layers
from modpo_hpc.errors import InputError

if TYPE_CHECKING:
    from modpo_hpc.study.alignment import Training

WHOLE = "conditioned"
"""The folder, beside ``adapter``, that holds what all weights come from."""
_KIND = "CONDITIONED"
_PARTS = ("A", "B", "C", "D")
_PREFIX = "base_model.model."
_APART = 1e-3


@dataclass(frozen=True)
class Factors:
    """Of one layer: A (rank, in), B (out, rank), C (K, rank, rank), D (K(K-1)/2, rank, rank), in fp32."""

    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor


def start_from(sources: Sequence[Source]) -> dict[str, Factors]:
    """Layer -> factors of the adapter that is, at weights w, the exact soup of ``sources`` with these weights.

    Raises:
        InputError: the sources adapt different layers.
    """
    found = {}
    for layer in common_layers(sources):
        parts = [source.factors[layer] for source in sources]
        ranks = [a.shape[0] for a, _ in parts]
        cores, begin = torch.zeros(len(sources), sum(ranks), sum(ranks)), 0
        for core, source, rank in zip(cores, sources, ranks, strict=True):
            core.diagonal()[begin : begin + rank] = math.copysign(1.0, source.scale)
            begin += rank
        # the scale is shared by both factors, so that all cores begin alike and learn at the same rate
        strengths = [math.sqrt(abs(source.scale)) for source in sources]
        a = torch.cat([one * strength for (one, _), strength in zip(parts, strengths, strict=True)])
        b = torch.cat([other * strength for (_, other), strength in zip(parts, strengths, strict=True)], dim=1)
        found[layer] = Factors(a, b, cores, torch.zeros(math.comb(len(sources), 2), *cores.shape[1:]))
    return found


def fresh_factors(
    model: nn.Module, settings: Training, base_name: str, seeds: Sequence[int]
) -> tuple[dict[str, Factors], dict[str, Any]]:
    """Factors of as many adapters as there are ``seeds``, none trained and all a little apart, and their configuration.

    ``model`` is as before. Raises as ``adapter.attach_adapter``.
    """
    sources = []
    for seed in seeds:
        adapted = attach_adapter(model, settings, base_name, seed)
        weights, config = adapter_weights(adapted), adapter_config(adapted)
        adapted.unload()
        for name, tensor in weights.items():
            if name.endswith(".lora_B.weight"):
                tensor.normal_(std=_APART)
        sources.append(as_source("", weights, config))
    return start_from(sources), sources[0].config


def core_at(linear: Tensor, mixed: Tensor, weights: Tensor) -> Tensor:
    """``C(w)``, (rank, rank), from C, D and the weights (K,)."""
    pairs = list(combinations(range(len(weights)), 2))
    products = torch.stack([weights[k] * weights[other] for k, other in pairs])
    return torch.einsum("k,kij->ij", weights, linear) + torch.einsum("p,pij->ij", products, mixed)


class ConditionedLinear(nn.Module):
    """A linear layer of the base model with its conditioned update; weights are set for all layers at once."""

    def __init__(self, base: nn.Module, factors: Factors, weights: Tensor, dropout: float) -> None:
        super().__init__()
        self.base_layer = base
        device = next(base.parameters()).device
        self.A, self.B, self.C, self.D = (nn.Parameter(getattr(factors, one).to(device)) for one in _PARTS)
        self.dropout = dropout
        self._weights = [weights]  # one tensor for all layers, and no buffer of this one

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base_layer(x)
        core = core_at(self.C, self.D, self._weights[0].to(x.device))
        inner = x if torch.is_autocast_enabled(x.device.type) else x.to(self.A.dtype)
        down = dropped_linear(inner, self.A, self.dropout if self.training else 0.0)
        update = nn.functional.linear(down, self.B @ core)
        return result + update.to(result.dtype)


class ConditionedModel(OwnAdapter):
    """A causal LM whose layers in ``factors`` have conditioned updates; its own weights are frozen.

    It begins at w = 0: as the base model.
    """

    def __init__(self, model: nn.Module, factors: Mapping[str, Factors], config: Mapping[str, Any], dropout: float):
        super().__init__()
        self.config = dict(config)
        self.weights = torch.zeros(next(iter(factors.values())).C.shape[0])
        model.requires_grad_(False)
        self._layers: dict[str, ConditionedLinear] = {}
        for layer, of_layer in factors.items():
            parent, _, name = layer.removeprefix(_PREFIX).rpartition(".")
            owner = model.get_submodule(parent)
            adapted = ConditionedLinear(getattr(owner, name), of_layer, self.weights, dropout)
            setattr(owner, name, adapted)
            self._layers[layer] = adapted
        self.model = model

    def get_base_model(self) -> nn.Module:
        return self.model

    def set_weights(self, weights: Sequence[float]) -> None:
        """Answer at ``weights``, in the order of the sources, from now on."""
        self.weights.copy_(torch.tensor(weights))

    def adapter_weights(self) -> dict[str, Tensor]:
        return {name: one.detach().cpu().contiguous().clone() for name, one in self._factors()}

    def load_adapter_weights(self, weights: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, one in self._factors():
                one.copy_(weights[name])

    def _factors(self) -> Iterator[tuple[str, nn.Parameter]]:
        for layer, adapted in self._layers.items():
            for part in _PARTS:
                yield f"{layer}.{part}", getattr(adapted, part)


def conditioned_config(config: Mapping[str, Any], criteria: Sequence[str]) -> dict[str, Any]:
    """Of the folder that holds the whole: that of a plain adapter, and the criteria in the order of the weights."""
    return {**config, "peft_type": _KIND, "criteria": list(criteria)}


def left_by(
    adapted: ConditionedModel, weights: Mapping[str, Tensor], names: Sequence[str], asked: Mapping[str, float]
) -> dict[str, Adapter]:
    """What a training of ``adapted`` leaves: the whole, and the plain adapter where ``names`` weigh as ``asked``."""
    config = conditioned_config(adapted.config, names)
    return {"adapter": at_weights(weights, config, asked), WHOLE: (dict(weights), config)}


def read_conditioned(folder: Path) -> Adapter:
    """Weights and configuration of the conditioned adapter in ``folder``.

    Raises:
        InputError: there is none.
    """
    weights, config = read_files(folder)
    if config.get("peft_type") != _KIND:
        raise InputError("this is no conditioned adapter", file=folder, remedy="Name a policy of method conditioned.")
    return weights, config


def at_weights(weights: Mapping[str, Tensor], config: Mapping[str, Any], asked: Mapping[str, float]) -> Adapter:
    """The plain LoRA adapter that a conditioned one is where its criteria weigh as ``asked``, as shares of their sum.

    Raises:
        InputError: a criterion that it was not trained for, or weights that are no shares.
    """
    criteria: list[str] = config["criteria"]
    if odd := [name for name in asked if name not in criteria]:
        raise InputError(
            "the conditioned adapter was not trained for this criterion",
            field="weights",
            value=odd[0],
            remedy=f"It knows {', '.join(criteria)}.",
        )
    if any(weight < 0 for weight in asked.values()) or not any(asked.values()):
        raise InputError(
            "these weights are no shares", field="weights", value=dict(asked), remedy="Give zero or more, one above."
        )
    total = sum(asked.values())
    shares = torch.tensor([asked.get(name, 0.0) / total for name in criteria], dtype=torch.float64)
    plain: dict[str, Tensor] = {}
    layers = sorted(name.removesuffix(".A") for name in weights if name.endswith(".A"))
    for layer in layers:
        a, b, linear, mixed = (weights[f"{layer}.{part}"] for part in _PARTS)
        core = core_at(linear.double(), mixed.double(), shares)
        plain[f"{layer}.lora_A.weight"] = a.clone()
        plain[f"{layer}.lora_B.weight"] = (b.double() @ core).float().contiguous()
    rank = weights[f"{layers[0]}.A"].shape[0]
    kept = {name: value for name, value in config.items() if name != "criteria"}
    as_lora = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "use_rslora": False, "lora_dropout": 0.0}
    return plain, {**kept, **as_lora}
