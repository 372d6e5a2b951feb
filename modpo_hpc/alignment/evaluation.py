"""What a policy does on held-out questions: loss, and accuracy and margin of every criterion."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from modpo_hpc.alignment.batches import in_passes
from modpo_hpc.alignment.collator import collate
from modpo_hpc.alignment.engine import PlainEngine, TrainingEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.losses import dpo_loss
from modpo_hpc.methods import Trained
from modpo_hpc.study.alignment import Training


@torch.no_grad()
def evaluate(
    engine: TrainingEngine, policy: Trained, settings: Training, examples: Sequence[Example]
) -> dict[str, Any]:
    """Means over ``examples``, which hold the pairs of every criterion.

    ``held_out_accuracy`` is the share of pairs with ``h > 0``, the criteria weighted by their weights; it does not
    depend on beta, so trials with different beta compare. ``criteria`` holds accuracy, mean and spread of ``beta*h``
    and number of pairs for each criterion; where the loss has margins, ``weighted_margin_spread`` is what beta*h works
    against.
    """
    engine.train(False)
    policy.set_up(engine.adapted)
    order = sorted(range(len(examples)), key=lambda place: (examples[place].tree.tokens, place))
    lengths = [example.tree.tokens for example in examples]
    parts = in_passes(order, lengths, settings.micro_batch_size, settings.pass_tokens)
    count = len(policy.criteria)
    sums = torch.zeros(3 + 4 * count, device=engine.device, dtype=torch.float64)
    for first in range(0, len(parts), engine.layout.processes):
        place = first + engine.rank
        part = parts[place] if place < len(parts) else ()
        batch = collate([examples[one] for one in part or order[:1]], engine.device)
        logps = engine.logps(batch.packed)
        if not part:
            continue
        losses, metrics = policy.loss(batch, logps, settings)
        margins, present = settings.beta * batch.log_ratios(logps)[:count], batch.present[:count]
        margins = torch.where(present, margins, 0.0).double()
        right = ((margins > 0) & present).double()
        margin = metrics.get("weighted_margin", torch.zeros_like(losses)).double()
        sums += torch.cat(
            (
                torch.stack((losses.double().sum(), margin.sum(), (margin**2).sum())),
                right.sum(1),
                margins.sum(1),
                (margins**2).sum(1),
                present.double().sum(1),
            )
        )
    loss, margin_sum, margin_squares, *rest = engine.total(sums).tolist()
    by_criterion = {name: _of_criterion(*rest[place::count]) for place, name in enumerate(policy.criteria)}
    measured = [
        (weight, found["accuracy"])
        for weight, found in zip(policy.weights, by_criterion.values(), strict=True)
        if found["pairs"] and weight > 0
    ]
    weight_sum = sum(weight for weight, _ in measured)
    found = {
        "held_out_loss": loss / len(examples),
        "held_out_accuracy": sum(weight * one for weight, one in measured) / weight_sum if measured else None,
        "held_out_examples": len(examples),
        "criteria": by_criterion,
    }
    if policy.margin_criteria:
        found["weighted_margin_spread"] = _spread(margin_sum, margin_squares, len(examples))
    return found


def gradient_cosines(
    engine: PlainEngine, policy: Trained, settings: Training, examples: Sequence[Example]
) -> dict[str, float | None]:
    """Cosine between the gradients of the criteria's own DPO losses, over ``examples``, for every pair of criteria.

    Below zero the criteria pull the adapter apart. None where a criterion has no pair or no gradient. The adapter is
    not changed.
    """
    engine.train(False)
    gradients = {name: _gradient(engine, settings.beta, examples, place) for place, name in enumerate(policy.criteria)}
    return {
        f"{one} and {other}": _cosine(gradients[one], gradients[other]) for one, other in combinations(gradients, 2)
    }


def _gradient(engine: PlainEngine, beta: float, examples: Sequence[Example], place: int) -> Tensor | None:
    alone = [only for example in examples if (only := example.only_criterion(place)) is not None]
    if not alone:
        return None
    for example in alone:
        batch = collate([example], engine.device)
        losses, _ = dpo_loss(*batch.anchor_sums(engine.logps(batch.packed)), beta)
        engine.backward(losses.sum(), last=example is alone[-1])
    return engine.gradients()


def _cosine(one: Tensor | None, other: Tensor | None) -> float | None:
    if one is None or other is None:
        return None
    sizes = float(one.norm()) * float(other.norm())
    return float(one @ other) / sizes if sizes else None


def _of_criterion(right: float, margins: float, squares: float, pairs: float) -> dict[str, float]:
    if not pairs:
        return {"pairs": 0}
    return {
        "accuracy": right / pairs,
        "margin": margins / pairs,
        "margin_spread": _spread(margins, squares, pairs),
        "pairs": int(pairs),
    }


def _spread(values: float, squares: float, count: float) -> float:
    return float(max(0.0, squares / count - (values / count) ** 2) ** 0.5)
