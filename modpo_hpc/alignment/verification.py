"""Whether a model is scored rightly along trees: one tree of the study both ways, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from modpo_hpc.alignment.engine import Engine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.trees import pack
from modpo_hpc.errors import InputError

_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.15}
"""Nats for the root of a token: rounding goes either way from token to token, a wrong mask does not."""


def verify_tree_scoring(engine: Engine, examples: Sequence[Example], base: str) -> float:
    """Score the longest of ``examples`` as a tree and as sequences of their own; returns the largest difference.

    Whatever a model does that trees do not know of (a window, a sink, a scale of a new kind) shows in its log-probs.
    The longest tree is taken because a window is only met where a text is longer than it.

    Args:
        base: name of the model, for the message.

    Raises:
        InputError: they differ by more than rounding.
    """
    example = max(examples, key=lambda one: (one.tree.depth, one.question_id))
    packed = pack([example.tree], engine.device)
    engine.train(False)
    with torch.no_grad():
        shared, alone = engine.logps(packed), engine.logps(packed, as_sequences=True)
    quantized = getattr(engine.adapted.get_base_model(), "quantization_method", None) is not None
    dtype = torch.bfloat16 if quantized else engine.adapted.get_base_model().dtype
    allowed = _TOLERANCE[dtype] * torch.tensor(packed.lengths, device=engine.device).sqrt()
    gap = (shared - alone).abs()
    if not bool((gap <= allowed).all()):
        raise InputError(
            f"scored along a tree, a response of question {example.question_id} has a log-prob of "
            f"{float(shared[gap.argmax()]):.2f}, and {float(alone[gap.argmax()]):.2f} as a sequence of its own: "
            "shared prompts do not fit this model",
            field="models.base",
            value=base,
            remedy="Take a model of softmax attention alone (Llama, Mistral, Qwen, Gemma, OLMo, Phi-3), or report it.",
        )
    return float(gap.max())
