"""What a model computes: the positions that are fed to it, call by call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def positions_fed(model: Any) -> Iterator[list[int]]:
    """Positions of each call of ``model`` in the block: rows times columns of ``input_ids``."""
    positions: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _model, _positional, named: positions.append(named["input_ids"].numel()), with_kwargs=True
    )
    try:
        yield positions
    finally:
        hook.remove()
