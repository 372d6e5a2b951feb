"""Decoding many prompts at once: left padding, a key-value cache, and places that are refilled as texts end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from modpo_hpc.generation.cache import RowCache
from modpo_hpc.generation.product import Product
from modpo_hpc.generation.records import FinishReason
from modpo_hpc.generation.sampling import draw_tokens, uniforms_of
from modpo_hpc.study.generation import Sampling

_COMPACT = 8
"""Rows are compacted and places refilled when one in this many is free: moving the cache costs about two steps."""


@dataclass(frozen=True)
class Prompt:
    """Token ids to continue, and the seed of the continuation."""

    tokens: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Continuation:
    """Token ids without the end-of-sequence token, and why they end."""

    tokens: list[int]
    finish_reason: FinishReason


@dataclass
class _Rows:
    """The texts in progress. Row r of every tensor and of the cache is the prompt ``index[r]``."""

    cache: Any
    index: torch.Tensor
    mask: torch.Tensor
    position: torch.Tensor
    logits: torch.Tensor
    count: torch.Tensor
    alive: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.alive = torch.ones_like(self.index, dtype=torch.bool)

    def keep_alive(self) -> None:
        rows = self.alive.nonzero().squeeze(1)
        self.index, self.position, self.count = self.index[rows], self.position[rows], self.count[rows]
        self.logits, self.mask, self.alive = self.logits[rows], self.mask[rows], self.alive[rows]
        first_column = int(self.mask.argmax(dim=1).min()) if len(rows) else 0
        self.mask = self.mask[:, first_column:]
        self.cache.take(rows, first_column)

    def join(self, new: _Rows) -> None:
        columns = max(self.mask.shape[1], new.mask.shape[1])
        masks = [torch.nn.functional.pad(one, (columns - one.shape[1], 0)) for one in (self.mask, new.mask)]
        self.cache.join(new.cache)
        self.mask = torch.cat(masks)
        for name in ("index", "position", "logits", "count", "alive"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(new, name)]))


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    end_tokens: Sequence[int],
    rows_at_once: int,
    on_step: Callable[[int], None] = lambda finished: None,
) -> list[Continuation]:
    """Continue every prompt until an end token or ``sampling.max_tokens``.

    At most ``rows_at_once`` texts are in progress, the longest prompts first; when an eighth of the places is free
    they are refilled. Prompts that are equal are read once. Each text is drawn from uniform numbers that its own
    seed gives, so what it says does not hang on its neighbours, but for rounding in the model itself.

    Args:
        model: a causal language model of transformers, in evaluation mode, or a product of such.
        prompts: at least one token each.
        on_step: called after every step with the number of texts that are finished.

    Returns:
        Continuations in the order of ``prompts``.
    """
    device = model.device
    ends = torch.as_tensor(sorted(end_tokens), device=device)
    limit = sampling.max_tokens
    tokens = torch.zeros(len(prompts), limit, dtype=torch.long, device=device)
    lengths = torch.zeros(len(prompts), dtype=torch.long, device=device)
    stopped = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    draws = torch.from_numpy(np.stack([uniforms_of(one.seed, limit) for one in prompts])).to(device)
    queue = sorted(range(len(prompts)), key=lambda one: (-len(prompts[one].tokens), prompts[one].tokens, one))
    slack = max(1, rows_at_once // _COMPACT)
    rows: _Rows | None = None
    while rows is not None or queue:
        if rows is not None:
            dead = int((~rows.alive).sum())
            if dead == len(rows.index):
                rows = None
                continue
            if dead * _COMPACT >= len(rows.index):
                rows.keep_alive()
        free = rows_at_once - (0 if rows is None else len(rows.index))
        if queue and (rows is None or free >= slack):
            new, queue = _read(model, prompts, queue[:free]), queue[free:]
            if rows is None:
                rows = new
            else:
                rows.join(new)
        assert rows is not None
        drawn = draw_tokens(rows.logits, draws[rows.index, rows.count], sampling.temperature, sampling.top_p)
        ended = torch.isin(drawn, ends) & rows.alive
        written = rows.alive & ~ended
        tokens[rows.index[written], rows.count[written]] = drawn[written]
        rows.count = rows.count + written
        full = written & (rows.count == limit)
        over = ended | full
        lengths[rows.index[over]] = rows.count[over]
        stopped[rows.index[ended]] = True
        rows.alive = rows.alive & ~over
        # a dead row stays in the batch until the next compaction: its counter must stay inside the tables
        rows.count = rows.count.clamp(max=limit - 1)
        living = int(rows.alive.sum())
        on_step(len(prompts) - len(queue) - living)
        if living:
            _advance(model, rows, drawn)
    return [
        Continuation(row[:length], "stop" if stop else "length")
        for row, length, stop in zip(tokens.tolist(), lengths.tolist(), stopped.tolist(), strict=True)
    ]


def _read(model: Any, prompts: Sequence[Prompt], admitted: Sequence[int]) -> _Rows:
    """The state after reading the admitted prompts; equal prompts are read once."""
    device = model.device
    distinct = list(dict.fromkeys(prompts[one].tokens for one in admitted))
    columns = max(len(one) for one in distinct)
    ids = torch.zeros(len(distinct), columns, dtype=torch.long)
    mask = torch.zeros(len(distinct), columns, dtype=torch.long)
    for row, prompt in enumerate(distinct):
        ids[row, columns - len(prompt) :] = torch.as_tensor(prompt)
        mask[row, columns - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    cache = model.new_cache() if isinstance(model, Product) else RowCache()
    logits = _next_logits(model, ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)
    place = {prompt: row for row, prompt in enumerate(distinct)}
    rows = torch.as_tensor([place[prompts[one].tokens] for one in admitted], device=device)
    cache.take(rows)
    return _Rows(
        cache=cache,
        index=torch.as_tensor(admitted, device=device),
        mask=mask[rows],
        position=mask[rows].sum(1),
        logits=logits[rows],
        count=torch.zeros(len(admitted), dtype=torch.long, device=device),
    )


def _advance(model: Any, rows: _Rows, drawn: torch.Tensor) -> None:
    rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(drawn), 1)], dim=1)
    rows.logits = _next_logits(model, drawn[:, None], rows.mask, rows.position[:, None], rows.cache)
    rows.position = rows.position + 1


def _next_logits(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any
) -> torch.Tensor:
    return model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
