"""Soups: one adapter from the weighted updates of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from modpo_hpc.alignment.adapter import read_adapter
from modpo_hpc.errors import InputError

Merge = Literal["exact", "svd", "paper"]
_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Source:
    """A LoRA adapter: factors of each layer, fp32, and the scale of its update ``scale * B @ A``.

    ``factors`` maps a layer to (A of shape (rank, in), B of shape (out, rank)).
    """

    name: str
    factors: dict[str, tuple[Tensor, Tensor]]
    scale: float
    config: dict[str, Any]


@dataclass(frozen=True)
class MergedAdapter:
    """A merged adapter.

    Attributes:
        weights, config: as PEFT stores them; the scale of the update is 1 unless ``paper`` kept the sources'.
        error: largest and mean (over layers) relative Frobenius distance to the exact sum of updates.
    """

    weights: dict[str, Tensor]
    config: dict[str, Any]
    error: dict[str, float]


def read_source(name: str, folder: Path) -> Source:
    """The adapter in ``folder``.

    Raises:
        InputError: it is none, or it has parts that are no plain LoRA factors.
    """
    weights, config = read_adapter(folder)
    layers = [key for key in weights if key.endswith(_A)]
    if len(weights) != 2 * len(layers) or any(config.get(one) for one in ("use_dora", "rank_pattern", "alpha_pattern")):
        raise InputError(
            "this adapter has parts beside plain LoRA factors of one rank, which cannot be merged",
            file=folder,
            remedy="Train the sources with plain LoRA.",
        )
    return as_source(name, weights, config)


def as_source(name: str, weights: Mapping[str, Tensor], config: dict[str, Any]) -> Source:
    """The plain LoRA adapter of these weights and this configuration."""
    layers = sorted(key.removesuffix(_A) for key in weights if key.endswith(_A))
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    factors = {layer: (weights[layer + _A].float(), weights[layer + _B].float()) for layer in layers}
    return Source(name, factors, scale, config)


def merge(
    sources: Sequence[Source], weights: Sequence[float], how: Merge = "exact", svd_rank: int | None = None
) -> MergedAdapter:
    """The soup of ``sources``.

    ``exact`` stacks the factors, so that the update is the sum of ``w_i * dW_i`` (what PEFT calls ``cat``; the ranks
    add up). ``svd`` is the best approximation of that sum of rank ``svd_rank`` (default: the largest rank among the
    sources). ``paper`` averages the factors A and B themselves, which is another update: the product of averages.

    Raises:
        InputError: the sources adapt different layers, or ``paper`` is asked for different ranks or scales.
    """
    layers = common_layers(sources)
    exact = {layer: _stack(sources, weights, layer) for layer in layers}
    scale = 1.0
    if how == "exact":
        merged = exact
    elif how == "svd":
        rank = svd_rank or max(source.config["r"] for source in sources)
        merged = {layer: _truncate(a, b, min(rank, *a.shape, *b.shape)) for layer, (a, b) in exact.items()}
    else:
        scale = _common_scale(sources)
        merged = {layer: _average(sources, weights, layer) for layer in layers}
    rank = max(a.shape[0] for a, _ in merged.values())
    merged = {layer: _padded(a, b, rank) for layer, (a, b) in merged.items()}
    config = {
        **sources[0].config,
        "r": rank,
        "lora_alpha": scale * rank if how == "paper" else rank,
        "use_rslora": False,
        "lora_dropout": 0.0,
    }
    flat = {name: tensor for layer, (a, b) in merged.items() for name, tensor in ((layer + _A, a), (layer + _B, b))}
    return MergedAdapter(flat, config, _error(exact, merged, scale))


def update_of(factors: tuple[Tensor, Tensor], scale: float) -> Tensor:
    """``scale * B @ A``, (out, in)."""
    a, b = factors
    return scale * (b @ a)


def common_layers(sources: Sequence[Source]) -> list[str]:
    """The layers that all ``sources`` adapt. Raises InputError: they adapt different ones."""
    layers = set(sources[0].factors)
    for source in sources[1:]:
        if odd := layers ^ set(source.factors):
            raise InputError(
                f"{sources[0].name} and {source.name} adapt different layers ({sorted(odd)[0]} is in one of them only)",
                field="sources",
                remedy="Train the sources with the same lora_targets on the same base model.",
            )
        for layer, (a, b) in source.factors.items():
            first_a, first_b = sources[0].factors[layer]
            if (a.shape[1], b.shape[0]) != (first_a.shape[1], first_b.shape[0]):
                raise InputError(
                    f"{layer} has other dimensions in {source.name} than in {sources[0].name}",
                    field="sources",
                    remedy="Train the sources on the same base model.",
                )
    return sorted(layers)


def _common_scale(sources: Sequence[Source]) -> float:
    kinds = {(source.config["r"], source.scale) for source in sources}
    if len(kinds) > 1:
        raise InputError(
            "factors of different rank or scale cannot be averaged",
            field="merge",
            value="paper",
            remedy="Use merge: exact, which takes any ranks and alphas.",
        )
    return sources[0].scale


def _stack(sources: Sequence[Source], weights: Sequence[float], layer: str) -> tuple[Tensor, Tensor]:
    """Factors of ``sum_i w_i * s_i * B_i A_i``; the weight is shared evenly between A and B."""
    parts = [(source.factors[layer], weight * source.scale) for source, weight in zip(sources, weights, strict=True)]
    a = torch.cat([factor_a * math.sqrt(abs(strength)) for (factor_a, _), strength in parts])
    b = torch.cat(
        [factor_b * math.copysign(math.sqrt(abs(strength)), strength) for (_, factor_b), strength in parts], dim=1
    )
    return a, b


def _average(sources: Sequence[Source], weights: Sequence[float], layer: str) -> tuple[Tensor, Tensor]:
    pairs = list(zip(sources, weights, strict=True))
    a, b = (torch.stack([weight * source.factors[layer][side] for source, weight in pairs]).sum(0) for side in (0, 1))
    return a, b


def _truncate(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Best factors of ``B @ A`` of ``rank``, by the SVD of the small core between their QR factors."""
    q_b, r_b = torch.linalg.qr(b.double())
    q_a, r_a = torch.linalg.qr(a.double().T)
    u, s, v = torch.linalg.svd(r_b @ r_a.T)
    root = s[:rank].sqrt()
    left, right = (q_b @ u[:, :rank]) * root, (q_a @ v[:rank].T) * root
    return right.T.float().contiguous(), left.float().contiguous()


def _padded(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    missing = rank - a.shape[0]
    return torch.nn.functional.pad(a, (0, 0, 0, missing)), torch.nn.functional.pad(b, (0, missing))


def _error(
    exact: Mapping[str, tuple[Tensor, Tensor]], merged: Mapping[str, tuple[Tensor, Tensor]], scale: float
) -> dict[str, float]:
    distances = []
    for layer, factors in exact.items():
        wanted = update_of(factors, 1.0)
        size = float(wanted.norm())
        distances.append(float((update_of(merged[layer], scale) - wanted).norm()) / size if size else 0.0)
    return {"largest": max(distances), "mean": sum(distances) / len(distances)}
