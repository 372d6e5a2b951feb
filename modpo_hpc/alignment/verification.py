"""Whether a model is scored rightly along trees: one tree of the study both ways, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modpo_hpc.alignment.engine import PlainEngine, TrainingEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.trees import PackedTrees, pack
from modpo_hpc.errors import InputError

_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.15}
"""Nats for the root of a token: rounding goes either way from token to token, a wrong mask does not."""
_SLOPES = {torch.float32: 1e-2, torch.bfloat16: 0.1}
"""Of the norm of a gradient: TF32 and bfloat16 round, a wrong kernel is off by much."""


def choose_attention(engine: TrainingEngine, examples: Sequence[Example]) -> str:
    """Leave ``engine`` the one attention kernel that it was asked for, if that computes what the loop does here.

    Log-probs and the adapter's gradient of the longest of ``examples`` are compared. Where they differ by more than
    rounding, or the kernel cannot be built or run, the loop over branches is taken. Returns what was found, in words;
    none where one kernel was not asked for.
    """
    if not isinstance(engine, PlainEngine) or not engine.scorer.one_kernel:
        return ""
    packed = pack([_longest(examples).tree], engine.device)
    engine.train(False)
    try:
        logps, slopes = _with_kernel(engine, packed, True)
        loop_logps, loop_slopes = _with_kernel(engine, packed, False)
        gap, off = (logps - loop_logps).abs(), float((slopes - loop_slopes).norm() / loop_slopes.norm())
        fits = bool((gap <= _allowed(engine, packed)).all()) and off <= _SLOPES[_dtype(engine)]
        found = f"log-probs differ by {float(gap.max()):.2g} nats, the gradient by {off:.2g} of its norm"
    except Exception as error:
        # a kernel may fail to compile or run in any way; the reason is told, and the loop computes the same
        engine.gradients()  # what the attempt has left
        fits, found = False, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    engine.scorer.one_kernel = fits
    said = "one kernel a pass" if fits else "the loop over branches, not one kernel a pass"
    return f"{said} ({found})"


def _with_kernel(engine: PlainEngine, packed: PackedTrees, one_kernel: bool) -> tuple[Tensor, Tensor]:
    """Log-probs (R,), and the adapter's gradient of their sum."""
    engine.scorer.one_kernel = one_kernel
    logps = engine.logps(packed)
    engine.backward(logps.sum(), last=True)
    return logps.detach(), engine.gradients()


def verify_tree_scoring(engine: TrainingEngine, examples: Sequence[Example], base: str) -> float:
    """Score the longest of ``examples`` as a tree and as sequences of their own; returns the largest difference.

    Whatever a model does that trees do not know of (a window, a sink, a scale of a new kind) shows in its log-probs.
    The longest tree is taken because a window is only met where a text is longer than it.

    Args:
        base: name of the model, for the message.

    Raises:
        InputError: they differ by more than rounding.
    """
    example = _longest(examples)
    packed = pack([example.tree], engine.device)
    engine.train(False)
    with torch.no_grad():
        shared, alone = engine.logps(packed), engine.logps(packed, as_sequences=True)
    gap = (shared - alone).abs()
    if not bool((gap <= _allowed(engine, packed)).all()):
        raise InputError(
            f"scored along a tree, a response of question {example.question_id} has a log-prob of "
            f"{float(shared[gap.argmax()]):.2f}, and {float(alone[gap.argmax()]):.2f} as a sequence of its own: "
            "shared prompts do not fit this model",
            field="models.base",
            value=base,
            remedy="Take a model of softmax attention alone (Llama, Mistral, Qwen, Gemma, OLMo, Phi-3), or report it.",
        )
    return float(gap.max())


def _longest(examples: Sequence[Example]) -> Example:
    return max(examples, key=lambda one: (one.tree.depth, one.question_id))


def _dtype(engine: TrainingEngine) -> torch.dtype:
    model = engine.adapted.get_base_model()
    quantized = getattr(model, "quantization_method", None) is not None
    return torch.bfloat16 if quantized else model.dtype


def _allowed(engine: TrainingEngine, packed: PackedTrees) -> Tensor:
    return _TOLERANCE[_dtype(engine)] * torch.tensor(packed.lengths, device=engine.device).sqrt()
