"""Several models that answer as one: the product of experts of their next-token distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from modpo_hpc.generation.cache import RowCache


class CacheOfEach:
    """A cache of rows for every one of the models."""

    def __init__(self, models: int) -> None:
        self.caches = tuple(RowCache() for _ in range(models))

    def take(self, rows: Sequence[int] | torch.Tensor, first_column: int = 0) -> None:
        """As ``RowCache.take``, in all."""
        for one in self.caches:
            one.take(rows, first_column)

    def join(self, other: CacheOfEach) -> None:
        """As ``RowCache.join``, one by one."""
        for ours, theirs in zip(self.caches, other.caches, strict=True):
            ours.join(theirs)


@dataclass(frozen=True)
class Product:
    """A model whose next token has the probability ``prod_i p_i**w_i``, normalised (Shi et al. 2024, for reverse KL).

    Attributes:
        experts: models of transformers with one vocabulary, and the power of each.
    """

    experts: tuple[tuple[Any, float], ...]

    @property
    def device(self) -> torch.device:
        return self.experts[0][0].device

    @property
    def generation_config(self) -> Any:
        return self.experts[0][0].generation_config

    def new_cache(self) -> CacheOfEach:
        """What ``decode`` keeps between two tokens."""
        return CacheOfEach(len(self.experts))

    def __call__(self, *, past_key_values: CacheOfEach, **inputs: Any) -> SimpleNamespace:
        """``logits``: the weighted sum of log-probs, up to a number for each row that no softmax sees."""
        logits = sum(
            weight * expert(past_key_values=cache, **inputs).logits.float()
            for (expert, weight), cache in zip(self.experts, past_key_values.caches, strict=True)
        )
        return SimpleNamespace(logits=logits)


@dataclass(frozen=True)
class WithAdapter:
    """The model ``adapted`` of PEFT as it is with the adapter ``name`` (None: with none)."""

    adapted: Any
    name: str | None

    @property
    def device(self) -> torch.device:
        return self.adapted.device

    @property
    def generation_config(self) -> Any:
        return self.adapted.generation_config

    def __call__(self, **inputs: Any) -> Any:
        if self.name is None:
            with self.adapted.disable_adapter():
                return self.adapted(**inputs)
        self.adapted.set_adapter(self.name)
        return self.adapted(**inputs)
