"""One forward and backward pass of a step; where it does not fit the card, the same gradients in smaller passes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from modpo_hpc.alignment.collator import Batch, collate
from modpo_hpc.alignment.dropped import random_state, set_random_state
from modpo_hpc.alignment.engine import TrainingEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.losses import Metrics
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.errors import ModpoError
from modpo_hpc.study.alignment import Training

Sums = dict[str, Tensor]


class HasLoss(Protocol):
    """A policy, or one objective of it."""

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        """As ``methods.Trained.loss``."""


class DoesNotFit(ModpoError):
    """A pass needs more memory than the card has, and cannot be made smaller."""


def pass_gradients(
    engine: TrainingEngine,
    policy: HasLoss,
    settings: Training,
    examples: Sequence[Example],
    share: float,
    last: bool,
) -> Sums:
    """Add ``share`` times the gradient of the summed losses of ``examples``; returns sums of loss and metrics.

    A pass that runs out of memory is taken in halves, and one example response by response: gradients add up, so that
    the step is the same but for rounding and the draws of dropout. The engine remembers the size that did not fit.

    Raises:
        DoesNotFit: one response is too long for the card, or the engine's processes must keep step with each other.
    """
    tokens = sum(one.tree.tokens for one in examples)
    if tokens < engine.too_many_tokens:
        try:
            return _whole(engine, policy, settings, examples, share, last)
        except torch.OutOfMemoryError as error:
            reason = str(error).partition("\n")[0]
        # outside the handler, whose traceback holds the tensors of the pass that failed
        _step_back(engine, tokens, reason)
    if len(examples) > 1:
        middle = len(examples) // 2
        parts = [
            pass_gradients(engine, policy, settings, part, share, last and number == 1)
            for number, part in enumerate((examples[:middle], examples[middle:]))
        ]
        return {name: parts[0][name] + parts[1][name] for name in parts[0]}
    return _response_by_response(engine, policy, settings, examples[0], share)


def _whole(
    engine: TrainingEngine, policy: HasLoss, settings: Training, examples: Sequence[Example], share: float, last: bool
) -> Sums:
    batch = collate(examples, engine.device)
    losses, metrics = policy.loss(batch, engine.logps(batch.packed), settings)
    engine.backward(losses.sum() * share, last)
    return {name: values.detach().sum() for name, values in {"loss": losses, **metrics}.items()}


def _step_back(engine: TrainingEngine, tokens: int, reason: str) -> None:
    if not engine.may_split:
        raise DoesNotFit(
            f"a pass of {tokens:,} tokens does not fit ({reason}), and under DeepSpeed the processes must keep step. "
            "Set alignment.training.pass_tokens below that, a smaller micro_batch_size, or gradient_checkpointing."
        )
    engine.too_many_tokens = tokens
    if engine.device.type == "cuda":
        torch.cuda.empty_cache()
    print(
        f"a pass of {tokens:,} tokens does not fit ({reason}); from now on passes of so many are taken in parts, with "
        "the same gradients. alignment.training.pass_tokens below that would save the attempt",
        file=sys.stderr,
        flush=True,
    )


def _response_by_response(
    engine: TrainingEngine, policy: HasLoss, settings: Training, example: Example, share: float
) -> Sums:
    """First all log-probs without a graph, then the slope of the loss in each, then each response's gradient alone."""
    batch = collate([example], engine.device)
    alone = [pack([Tree(example.tree.prompt, (one,))], engine.device) for one in example.tree.responses]
    states = []
    try:
        with torch.no_grad():
            logps = []
            for packed in alone:
                states.append(random_state(engine.device))
                logps.append(engine.logps(packed))
        leaf = torch.cat(logps).requires_grad_()
        losses, metrics = policy.loss(batch, leaf, settings)
        slopes = torch.autograd.grad(losses.sum() * share, leaf)[0]
        for packed, slope, state in zip(alone, slopes, states, strict=True):
            set_random_state(engine.device, state)
            engine.backward((engine.logps(packed) * slope).sum(), False)
    except torch.OutOfMemoryError as error:
        longest = max(len(example.tree.prompt) + len(one) for one in example.tree.responses)
        raise DoesNotFit(
            f"question {example.question_id}: one response of {longest:,} tokens with its prompt does not fit "
            f"({str(error).partition(chr(10))[0]}). Set gradient_checkpointing, a lower max_length, or take a larger "
            "card."
        ) from None
    return {name: values.detach().sum() for name, values in {"loss": losses, **metrics}.items()}
