"""A key-value cache whose rows can be taken out and added while the others go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

_SPARE_COLUMNS = 64


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, (rows, heads, columns, size), in a buffer that grows in steps.

    The library's own layer copies everything at every token; this one writes the new column in place.
    """

    keys: Any
    values: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns; returns all keys and values."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self._buffers is None or self._buffers[0].shape[-2] < end:
            self._grow(key_states, value_states, start, end + _SPARE_COLUMNS)
        assert self._buffers is not None
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._show(end)
        return self.keys, self.values

    def take(self, rows: torch.Tensor, first_column: int) -> None:
        """Keep ``rows``, in that order (repeats allowed), and the columns from ``first_column`` on."""
        self._buffers = (self.keys[rows, :, first_column:], self.values[rows, :, first_column:])
        self._show(self._buffers[0].shape[-2])

    def join(self, other: RoomyLayer) -> None:
        """Add the rows of ``other``; the shorter of the two is filled with zeros on the left."""
        columns = max(self.get_seq_length(), other.get_seq_length())
        mine, theirs = (self.keys, self.values), (other.keys, other.values)
        joined = []
        for ours, new in zip(mine, theirs, strict=True):
            rows = ours.shape[0]
            buffer = ours.new_empty(rows + new.shape[0], ours.shape[1], columns + _SPARE_COLUMNS, ours.shape[3])
            for part, states in ((buffer[:rows], ours), (buffer[rows:], new)):
                part[:, :, : columns - states.shape[2]] = 0
                part[:, :, columns - states.shape[2] : columns] = states
            joined.append(buffer)
        self._buffers = (joined[0], joined[1])
        self._show(columns)

    def _grow(self, key_states: torch.Tensor, value_states: torch.Tensor, used: int, columns: int) -> None:
        grown = []
        for held, states in ((self.keys, key_states), (self.values, value_states)):
            buffer = states.new_empty(*states.shape[:2], columns, states.shape[3])
            if used and held is not None:
                buffer[:, :, :used] = held
            grown.append(buffer)
        self._buffers = (grown[0], grown[1])

    def _show(self, columns: int) -> None:
        assert self._buffers is not None
        self.keys, self.values = (buffer[:, :, :columns] for buffer in self._buffers)


class RowCache(Cache):
    """A cache of ``RoomyLayer`` for a decoder whose layers all attend (fully or in a sliding window)."""

    layers: Any

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=RoomyLayer)

    def take(self, rows: Sequence[int] | torch.Tensor, first_column: int = 0) -> None:
        """Keep ``rows`` and the columns from ``first_column`` on, in every layer."""
        for layer in self.layers:
            layer.take(torch.as_tensor(rows, device=layer.keys.device), first_column)

    def join(self, other: RowCache) -> None:
        """Add the rows of ``other``, aligned at the right."""
        for ours, theirs in zip(self.layers, other.layers, strict=True):
            ours.join(theirs)
