"""Attention along the branches of packed trees, for every kind of softmax attention: windows, soft caps and sinks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modpo_hpc.alignment.one_kernel import WholePass
from modpo_hpc.alignment.trees import PackedPrompt


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    prompts: Sequence[PackedPrompt],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    whole: WholePass | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention in the form in which transformers calls one. Each response sees its prompt, its own past and itself.

    Args:
        module: the attention layer; training attention dropout is taken from ``dropout``.
        query: (1, heads, T, width); key and value may have fewer heads (grouped-query attention).
        attention_mask: None; the trees say who sees whom.
        prompts: the shape of the packed sequence.
        sliding_window: a token sees itself and so many less one before it, counted along its own branch.
        softcap: bound of the scores before the softmax (Gemma 2).
        s_aux: (heads,) scores of a sink that takes weight and gives nothing (gpt-oss).
        whole: the same trees for one kernel, which is taken where there are no sinks and no dropout.

    Returns:
        (1, T, heads, width) and None for the weights.
    """
    if whole is not None and s_aux is None and not dropout:
        return whole.attend(query, key, value, scaling, sliding_window, softcap), None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)

    def attend(one: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        if softcap is None and s_aux is None:
            return torch.nn.functional.scaled_dot_product_attention(
                one, keys, values, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
            )
        return _attend_in_steps(one, keys, values, mask, scaling, dropout, softcap, s_aux)

    # split once, not sliced: the gradient of a slice is as large as the whole sequence, that of a split is put together
    ends = [end for prompt in prompts for end in (prompt.end, *(branch.end for branch in prompt.branches))]
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    queries, keys, values = (iter(whole.split(sizes, dim=2)) for whole in (query, key, value))
    parts = []
    for prompt in prompts:
        root_key, root_value = next(keys), next(values)
        root = prompt.end - prompt.start
        parts.append(attend(next(queries), root_key, root_value, _window_of_root(root, sliding_window, query.device)))
        for branch in prompt.branches:
            own_query, own_key, own_value = next(queries), next(keys), next(values)
            if branch.start == branch.end:
                continue
            path_key, path_value = torch.cat((root_key, own_key), dim=2), torch.cat((root_value, own_value), dim=2)
            parts.append(attend(own_query, path_key, path_value, _windowed(branch.mask, root, sliding_window)))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _window_of_root(root: int, window: int | None, device: torch.device) -> Tensor | None:
    """The mask of a prompt; None: causal, nothing lies outside the window."""
    if window is None or window >= root:
        return None
    return _windowed(torch.ones(root, root, dtype=torch.bool, device=device).tril(), 0, window)


def _windowed(mask: Tensor, root: int, window: int | None) -> Tensor:
    """``mask`` without the keys that lie ``window`` or more before their query; the first query stands at ``root``."""
    if window is None or window >= mask.shape[1]:
        return mask
    return mask.triu(root - window + 1)


def _attend_in_steps(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """What no fused kernel computes: scores with a soft cap, a softmax in fp32 with a sink."""
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril() if mask is None else mask
    scores = scores.float().masked_fill(~seen, float("-inf"))
    if sinks is not None:
        column = sinks.float().reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat((scores, column), dim=-1)
    weights = scores.softmax(-1)[..., : key.shape[2]].to(value.dtype)
    return torch.nn.functional.dropout(weights, dropout) @ value
