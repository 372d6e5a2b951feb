"""Summed log-probabilities of the responses of packed trees under a causal language model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modpo_hpc.alignment.attention import tree_attention
from modpo_hpc.alignment.one_kernel import WholePass
from modpo_hpc.alignment.trees import PackedTrees
from modpo_hpc.errors import InputError

TREE_ATTENTION = "modpo_tree"
_ROWS = 1024
_SOFTMAX_LAYERS = {"full_attention", "sliding_attention", "attention"}
_FAMILIES = "Take a model of softmax attention alone: Llama, Mistral, Qwen, Gemma, OLMo, Phi-3, gpt-oss."


class ResponseScorer(nn.Module):
    """A causal LM seen as a function from packed trees to one fp32 log-probability per response.

    The model is a transformers causal LM, or a PEFT model around one. Its backbone runs once over the packed
    sequence; its head, as a module and therefore with an adapter if it has one, over response positions only. Around
    bfloat16 weights the adapter is computed in bfloat16, too; its own weights and gradients stay in fp32.

    Attributes:
        one_kernel: one attention kernel a pass, not a loop over branches; see ``one_kernel``.

    Raises:
        InputError: the model's attention cannot be exchanged, or it has layers that are no softmax attention.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.one_kernel = False
        self._own_attention = _use_tree_attention(self.causal_lm)
        self._half = self.causal_lm.dtype == torch.bfloat16
        if self._half:
            for module in self.model.modules():
                if hasattr(module, "lora_A"):
                    setattr(module, "cast_input_dtype_enabled", False)  # noqa: B010 - PEFT's own switch

    @property
    def causal_lm(self) -> Any:
        """The transformers model inside the adapter."""
        model: Any = self.model
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def forward(self, packed: PackedTrees, as_sequences: bool = False) -> Tensor:
        """Summed log-probs, (R,) fp32; ``as_sequences`` by the model's own forward pass, one response at a time."""
        device = packed.tokens.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._half):
            if as_sequences:
                return self._one_by_one(packed)
            hidden = self.causal_lm.get_decoder()(
                input_ids=packed.tokens,
                position_ids=packed.positions,
                use_cache=False,
                prompts=packed.prompts,
                whole=WholePass(packed) if self.one_kernel else None,
            ).last_hidden_state[0]
            logits = self._logits(hidden[packed.predictors])
            token_logps = TokenLogProbs.apply(logits, packed.targets)
        return torch.stack([part.sum() for part in token_logps.split(packed.lengths)])

    def _logits(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states (N, width), with what some models do to them after the head."""
        causal_lm = self.causal_lm
        config, logits = causal_lm.config, causal_lm.get_output_embeddings()(hidden)
        if getattr(config, "logit_scale", None) not in (None, 1):  # Cohere
            logits = logits * config.logit_scale
        if getattr(config, "logits_scaling", None) not in (None, 1):  # Granite
            logits = logits / config.logits_scaling
        if getattr(config, "final_logit_softcapping", None) is not None:  # Gemma
            logits = torch.tanh(logits / config.final_logit_softcapping) * config.final_logit_softcapping
        return logits

    def _one_by_one(self, packed: PackedTrees) -> Tensor:
        causal_lm, sums = self.causal_lm, []
        targets = iter(packed.targets.split(packed.lengths))
        causal_lm.set_attn_implementation(self._own_attention)
        try:
            for packed_prompt in packed.prompts:
                prompt = packed.tokens[:, packed_prompt.start : packed_prompt.end]
                for _ in packed_prompt.branches:
                    target = next(targets)
                    logits = causal_lm(input_ids=torch.cat((prompt, target[None]), dim=1), use_cache=False).logits
                    sums.append(TokenLogProbs.apply(logits[0, prompt.shape[1] - 1 : -1], target).sum())
        finally:
            causal_lm.set_attn_implementation(TREE_ATTENTION)
        return torch.stack(sums)


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


def _use_tree_attention(causal_lm: Any) -> str:
    """Have ``causal_lm`` attend along trees; returns the attention that it had."""
    from transformers import AttentionInterface, AttentionMaskInterface

    config, own = causal_lm.config, str(causal_lm.config._attn_implementation)
    name = type(causal_lm).__name__
    kinds = set(getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ())
    if strange := sorted(kinds - _SOFTMAX_LAYERS):
        raise InputError(
            f"{name} has layers of the kind {strange[0]}, whose state runs through a sequence: responses cannot share "
            "a prompt there",
            field="models.base",
            remedy=_FAMILIES,
        )
    if not getattr(causal_lm, "_supports_attention_backend", False):
        raise InputError(
            f"{name} does not let its attention be exchanged, which shared prompts need",
            field="models.base",
            remedy=_FAMILIES,
        )
    AttentionInterface.register(TREE_ATTENTION, tree_attention)
    AttentionMaskInterface.register(TREE_ATTENTION, _no_mask)
    causal_lm.set_attn_implementation(TREE_ATTENTION)
    return own


def _no_mask(*_: object, **__: object) -> None:
    return None
