"""One attention kernel for a whole packed pass on CUDA: FlexAttention with a block mask of trees.

Beside the loop over branches of ``attention``, which is the reference, and computes what this one cannot (sinks,
dropout of attention).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from modpo_hpc.alignment.trees import PackedTrees
from modpo_hpc.errors import InputError

VARIABLE = "MODPO_TREE_ATTENTION"
_SHAPES = 256
"""Shapes that kernels are compiled for, at most; with the steps of ``filled_up`` a study has a few dozen."""


def one_kernel_is_wanted() -> bool:
    """Whether ``MODPO_TREE_ATTENTION`` asks for one kernel a pass, and a CUDA card is seen.

    Raises:
        InputError: it has another value than ``loop`` and ``flex``.
    """
    asked = os.environ.get(VARIABLE, "loop")
    if asked not in ("loop", "flex"):
        raise InputError("there is no such attention", field=VARIABLE, value=asked, remedy="Set it to loop or flex.")
    return asked == "flex" and torch.cuda.is_available()


def filled_up(tokens: int) -> int:
    """The length that a pass of ``tokens`` is filled up to: eight steps between powers of two, 128 or a multiple.

    So shapes repeat, and few kernels are compiled.
    """
    step = max(128, 1 << max(0, tokens.bit_length() - 4))
    return -(-tokens // step) * step


class WholePass:
    """A packed pass as one kernel sees it; a mask is made once for a window, and serves every layer.

    Filler at the end sees filler alone, and nobody sees it.
    """

    def __init__(self, packed: PackedTrees) -> None:
        self._length = packed.tokens.shape[1]
        self._filler = filled_up(self._length) - self._length
        sizes: list[int] = []
        roots: list[int] = []
        for prompt in packed.prompts:
            root = len(sizes)
            sizes += [prompt.end - prompt.start, *(branch.end - branch.start for branch in prompt.branches)]
            roots += [root] * (1 + len(prompt.branches))
        device = packed.tokens.device
        lengths = torch.tensor([*sizes, self._filler], device=device)
        self._node = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
        self._root = torch.tensor([*roots, len(roots)], device=device).repeat_interleave(lengths)
        filler = torch.arange(self._filler, device=device)
        self._position = torch.cat((packed.positions[0], filler))
        self._masks: dict[int | None, Any] = {}

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None, cap: float | None
    ) -> Tensor:
        """Arguments as of ``attention.tree_attention``; returns (1, T, heads, width)."""
        whole = [torch.nn.functional.pad(one, (0, 0, 0, self._filler)) for one in (query, key, value)]
        found: Tensor = _kernel(query.device.type)(
            *whole,
            score_mod=None if cap is None else _capped(cap),
            block_mask=self._mask(window),
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return found[:, :, : self._length].transpose(1, 2).contiguous()

    def _mask(self, window: int | None) -> Any:
        from torch.nn.attention.flex_attention import create_block_mask

        if window not in self._masks:
            node, root, position = self._node, self._root, self._position
            size, device = len(node), str(node.device)
            reach = size if window is None else window

            def sees(_: Tensor, __: Tensor, one: Tensor, other: Tensor) -> Tensor:
                path = (node[other] == node[one]) | (node[other] == root[one])
                return path & (other <= one) & (position[one] - position[other] < reach)

            self._masks[window] = create_block_mask(sees, None, None, size, size, device=device)
        return self._masks[window]


@cache
def _capped(cap: float) -> Callable[..., Tensor]:
    def soft(score: Tensor, *_: Tensor) -> Tensor:
        return torch.tanh(score / cap) * cap

    return soft


@cache
def _kernel(device: str) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    if device != "cuda":
        return flex_attention
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES)
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)
