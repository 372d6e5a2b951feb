"""Summed log-probabilities of the responses of packed trees under a causal language model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modpo_hpc.alignment.trees import Packed, tree_attention
from modpo_hpc.errors import InputError

TREE_ATTENTION = "modpo_tree"
_ROWS = 1024


class ResponseScorer(nn.Module):
    """A causal LM seen as a function from packed trees to one fp32 log-probability per response.

    The model is a transformers causal LM, or a PEFT model around one. Its backbone runs once over the packed
    sequence; its head, as a module and therefore with an adapter if it has one, over response positions only.

    Raises:
        InputError: the model's attention cannot be exchanged, or it changes its logits after the head.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        _use_tree_attention(self.causal_lm)

    @property
    def causal_lm(self) -> Any:
        """The transformers model inside the adapter."""
        model: Any = self.model
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def forward(self, packed: Packed) -> Tensor:
        """Summed log-probs, (R,) fp32."""
        causal_lm = self.causal_lm
        hidden = causal_lm.get_decoder()(
            input_ids=packed.tokens,
            position_ids=packed.positions,
            use_cache=False,
            trunks=packed.trunks,
        ).last_hidden_state[0]
        logits = causal_lm.get_output_embeddings()(hidden[packed.predictors])
        token_logps = TokenLogProbs.apply(logits, packed.targets)
        return torch.stack([part.sum() for part in token_logps.split(packed.lengths)])


class TokenLogProbs(torch.autograd.Function):
    """fp32 log-softmax of logits (N, V) at the targets (N,), a block of rows at a time.

    Neither direction makes an fp32 copy of all logits: the forward pass keeps the logits as they are and one
    normaliser a row, the backward pass overwrites the logits with their gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        normalisers = torch.cat([block.float().logsumexp(-1) for block in logits.split(_ROWS)])
        picked = logits.gather(-1, targets[:, None])[:, 0].float()
        ctx.save_for_backward(logits, targets, normalisers)
        return picked - normalisers

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, targets, normalisers = ctx.saved_tensors
        result = logits.detach()
        blocks = zip(
            result.split(_ROWS), targets.split(_ROWS), normalisers.split(_ROWS), gradient.split(_ROWS), strict=True
        )
        for block, target, normaliser, upstream in blocks:
            slope = torch.exp(block.float() - normaliser[:, None]).mul_(-upstream[:, None])
            slope.scatter_add_(1, target[:, None], upstream[:, None].float())
            block.copy_(slope)
        return result, None


def _use_tree_attention(causal_lm: Any) -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    config = causal_lm.config
    name = type(causal_lm).__name__
    if not getattr(causal_lm, "_supports_attention_backend", False):
        raise InputError(
            f"{name} does not let its attention be exchanged, which shared prompts need",
            field="models.base",
            remedy="Take a model of the Llama, Mistral, Qwen or a like family.",
        )
    for field in ("final_logit_softcapping", "attn_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config, field, None) not in (None, 1, 1.0):
            raise InputError(
                f"{name} changes its logits ({field}) outside attention and head, and would be scored wrongly",
                field="models.base",
                remedy="Take a model of the Llama, Mistral, Qwen or a like family.",
            )
    AttentionInterface.register(TREE_ATTENTION, tree_attention)
    AttentionMaskInterface.register(TREE_ATTENTION, _no_mask)
    causal_lm.set_attn_implementation(TREE_ATTENTION)


def _no_mask(*_: object, **__: object) -> None:
    return None
