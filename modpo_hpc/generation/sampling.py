"""The next token from logits and one uniform number a row: the draw belongs to the row, not to the batch."""

from __future__ import annotations

import numpy as np
import torch

from modpo_hpc.errors import ModpoError
from modpo_hpc.seeds import rng_of


def uniforms_of(seed: int, count: int) -> np.ndarray:
    """``count`` uniform numbers in [0, 1) for the item with ``seed``, one for each token it may have. float64."""
    return rng_of("sample", seed).random(count)


def draw_tokens(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float = 1.0) -> torch.Tensor:
    """Sample by inverting the cumulative distribution.

    Args:
        logits: (rows, vocabulary), any floating type.
        uniforms: (rows,) in [0, 1), float64.
        temperature: 0 takes the most probable token.
        top_p: keep the smallest set of most probable tokens whose probability reaches this (Holtzman et al. 2020).

    Returns:
        (rows,) token ids, int64.

    Raises:
        ModpoError: a row of logits holds NaN or infinity.
    """
    if temperature == 0:
        best, tokens = logits.max(dim=-1)
        _refuse_broken(best)
        return tokens
    probabilities = torch.softmax(logits.float() / temperature, dim=-1).double()
    order = None
    if top_p < 1:
        probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p, 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    total = cumulative[:, -1:]
    _refuse_broken(total)
    places = torch.searchsorted(cumulative, uniforms[:, None] * total, right=True)
    places = places.clamp_(max=logits.shape[-1] - 1)
    return (places if order is None else order.gather(-1, places)).squeeze(-1)


def _refuse_broken(per_row: torch.Tensor) -> None:
    if not bool(torch.isfinite(per_row).all()):
        raise ModpoError(
            "the model gives NaN or infinite logits. Its weights are broken, or models.dtype does not suit it: "
            "try --set models.dtype=float32 on one shard"
        )
