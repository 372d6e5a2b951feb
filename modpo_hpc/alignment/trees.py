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
class PackedPrompt:
    """Where one prompt lies in the packed sequence, and its responses."""

    start: int
    end: int
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class PackedTrees:
    """Trees as one sequence of T tokens with R responses and N response tokens in all.

    Attributes:
        tokens: (1, T) token ids.
        positions: (1, T) distance of each token from the root of its tree.
        predictors: (N,) place in the sequence whose hidden state predicts each response token.
        targets: (N,) the response tokens, EOS included.
        lengths: tokens of each of the R responses, in the order of the trees.
        prompts: the shape, for attention.
    """

    tokens: Tensor
    positions: Tensor
    predictors: Tensor
    targets: Tensor
    lengths: tuple[int, ...]
    prompts: tuple[PackedPrompt, ...]


def pack(trees: Sequence[Tree], device: torch.device | str = "cpu") -> PackedTrees:
    """Lay ``trees`` one after the other; no token is padding."""
    tokens: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    targets: list[int] = []
    prompts = []
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
        prompts.append(PackedPrompt(start, start + root, tuple(branches)))
    return PackedTrees(
        tokens=torch.tensor([tokens], device=device),
        positions=torch.tensor([positions], device=device),
        predictors=torch.tensor(predictors, device=device),
        targets=torch.tensor(targets, device=device),
        lengths=tuple(len(response) for tree in trees for response in tree.responses),
        prompts=tuple(prompts),
    )


def _causal_below(root: int, inner: int, device: torch.device | str) -> Tensor:
    """(inner, root + inner): a response token sees the prompt, its past and itself."""
    return torch.ones(inner, root + inner, dtype=torch.bool, device=device).tril(root)
