"""The first factor of a LoRA and the dropout before it in one step, which keeps no copy of what it dropped from."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DroppedLinear(nn.Linear):
    """``linear(dropout(x))`` without bias.

    Dropout and linear apart keep ``dropout(x)`` for the gradient, in every module anew: seven copies in a layer of
    Mistral. Here ``x`` is kept, which modules that read the same share, and the mask is drawn again from the state
    that the random numbers had. Draws, values and gradients are those of the two apart, on a CPU to the last bit; a
    CUDA kernel multiplies by ``1 / (1 - dropout)`` before it rounds to bfloat16, the gradient here after.
    """

    def __init__(self, linear: nn.Linear, dropout: float) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.dropout = linear.weight, dropout

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return dropped_linear(x, self.weight, self.dropout if self.training else 0.0)


def dropped_linear(x: Tensor, weight: Tensor, dropout: float) -> Tensor:
    """``linear(dropout(x), weight)`` for x (..., in) and weight (out, in)."""
    if not dropout or not torch.is_grad_enabled():
        return F.linear(F.dropout(x, dropout), weight)
    return _DroppedProduct.apply(x, weight, dropout)


def drop_without_copies(adapted: nn.Module) -> None:
    """Have every LoRA of ``adapted`` (PEFT's modules) take its dropout and its first factor in one step."""
    for module in adapted.modules():
        downs, drops = getattr(module, "lora_A", None), getattr(module, "lora_dropout", None)
        if not isinstance(downs, nn.ModuleDict) or not isinstance(drops, nn.ModuleDict):
            continue
        for name, drop in drops.items():
            down = downs[name]
            if isinstance(drop, nn.Dropout) and drop.p and isinstance(down, nn.Linear):
                downs[name], drops[name] = DroppedLinear(down, drop.p), nn.Identity()


class _DroppedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dropout: float) -> Tensor:
        ctx.dropout, ctx.state = dropout, random_state(x.device)
        ctx.save_for_backward(x, weight)
        return F.linear(F.dropout(x, dropout), weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            set_random_state(x.device, ctx.state)
            scale = F.dropout(torch.ones_like(x), ctx.dropout)
        of_x = of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (gradient.flatten(0, -2).T @ (x * scale).flatten(0, -2)).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight.to(gradient.dtype)).mul_(scale).to(x.dtype)
        return of_x, of_weight, None


def random_state(device: torch.device) -> Tensor:
    """What the next random numbers of ``device`` follow from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Draw the random numbers of ``device`` from ``state`` on."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
