"""A prompt with its responses as one tree, and trees packed into one sequence without padding.

The prompt is computed once for all its responses: each response attends to the prompt and to its own past, and its
positions go on where the prompt ends. The last token of a response predicts nothing, so it is never computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tree:
    """Token ids of a prompt and of n responses to it; each response ends in its EOS."""

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass computes."""
        return len(self.prompt) + sum(len(response) - 1 for response in self.responses)

    @property
    def depth(self) -> int:
        """Tokens of the prompt and its longest response."""
        return len(self.prompt) + max(map(len, self.responses))


@dataclass(frozen=True)
class Branch:
    """Where one response lies in the packed sequence, and the mask of its attention.

    ``mask`` is (response, prompt + response), True where a query may look.
    """

    start: int
    end: int
    mask: Tensor


@dataclass(frozen=True)
class Trunk:
    """Where one prompt lies in the packed sequence, and its responses."""

    start: int
    end: int
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Packed:
    """Trees as one sequence of T tokens with R responses and N response tokens in all.

    Attributes:
        tokens: (1, T) token ids.
        positions: (1, T) distance of each token from the root of its tree.
        predictors: (N,) place in the sequence whose hidden state predicts each response token.
        targets: (N,) the response tokens, EOS included.
        lengths: tokens of each of the R responses, in the order of the trees.
        trunks: the shape, for attention.
    """

    tokens: Tensor
    positions: Tensor
    predictors: Tensor
    targets: Tensor
    lengths: tuple[int, ...]
    trunks: tuple[Trunk, ...]


def pack(trees: Sequence[Tree], device: torch.device | str = "cpu") -> Packed:
    """Lay ``trees`` one after the other; no token is padding."""
    tokens: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    targets: list[int] = []
    trunks = []
    for tree in trees:
        start, root = len(tokens), len(tree.prompt)
        tokens += tree.prompt
        positions += range(root)
        branches = []
        for response in tree.responses:
            first, inner = len(tokens), len(response) - 1
            tokens += response[:-1]
            positions += range(root, root + inner)
            predictors += (start + root - 1, *range(first, first + inner))
            targets += response
            branches.append(Branch(first, first + inner, _causal_below(root, inner, device)))
        trunks.append(Trunk(start, start + root, tuple(branches)))
    return Packed(
        tokens=torch.tensor([tokens], device=device),
        positions=torch.tensor([positions], device=device),
        predictors=torch.tensor(predictors, device=device),
        targets=torch.tensor(targets, device=device),
        lengths=tuple(len(response) for tree in trees for response in tree.responses),
        trunks=tuple(trunks),
    )


def _causal_below(root: int, inner: int, device: torch.device | str) -> Tensor:
    """(inner, root + inner): a response token sees the prompt, its past and itself."""
    return torch.ones(inner, root + inner, dtype=torch.bool, device=device).tril(root)


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    trunks: Sequence[Trunk],
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention along the branches of packed trees, in the form in which transformers calls an attention.

    Args:
        module: the attention layer; training attention dropout is taken from ``dropout``.
        query: (1, heads, T, width); key and value may have fewer heads (grouped-query attention).
        attention_mask: None; the trees say who sees whom.
        trunks: the shape of the packed sequence.

    Returns:
        (1, T, heads, width) and None for the weights.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    attend = torch.nn.functional.scaled_dot_product_attention
    # split once, not sliced: the gradient of a slice is as large as the whole sequence, that of a split is put together
    ends = [end for trunk in trunks for end in (trunk.end, *(branch.end for branch in trunk.branches))]
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    queries, keys, values = (iter(whole.split(sizes, dim=2)) for whole in (query, key, value))
    parts = []
    for trunk in trunks:
        root_key, root_value = next(keys), next(values)
        parts.append(attend(next(queries), root_key, root_value, dropout_p=dropout, is_causal=True, scale=scaling))
        for branch in trunk.branches:
            own_query, own_key, own_value = next(queries), next(keys), next(values)
            if branch.start == branch.end:
                continue
            path_key, path_value = torch.cat((root_key, own_key), dim=2), torch.cat((root_value, own_value), dim=2)
            parts.append(
                attend(own_query, path_key, path_value, attn_mask=branch.mask, dropout_p=dropout, scale=scaling)
            )
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None
