"""Do the margins of MODPO do anything? Their spread beside the spread of ``beta*h`` that they work against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modpo_hpc.alignment.examples import Example

FELT = 0.1
DROWNING = 5.0
DOMINANT = 0.8


@dataclass(frozen=True)
class MarginReport:
    """How far the margins move the logit of the loss, over the training pairs.

    Attributes:
        spread: for each margin criterion the standard deviation of ``w_j * (r_chosen - r_rejected) / w_0``.
        total_spread: that of their sum.
        nats: ``total_spread * w_0 / beta``: by how many nats ``h`` has to move from pair to pair to follow the margins.
        warnings: one sentence for each thing that is likely to be wrong.
    """

    spread: dict[str, float]
    total_spread: float
    nats: float
    warnings: tuple[str, ...]


def report_margins(
    examples: Sequence[Example], criteria: Sequence[str], weights: Sequence[float], beta: float
) -> MarginReport:
    """The report for MODPO with ``criteria`` and ``weights``, the anchor first."""
    differences = np.array([_difference(example) for example in examples])
    felt = differences * np.array(weights[1:]) / weights[0]
    spread = dict(zip(criteria[1:], felt.std(axis=0).tolist(), strict=True))
    total = float(felt.sum(axis=1).std())
    return MarginReport(spread, total, total * weights[0] / beta, tuple(_warnings(spread, total)))


def _difference(example: Example) -> list[float]:
    pair = example.pairs[0]
    if pair is None:
        raise ValueError(f"question {example.question_id} has no pair of the anchor")
    chosen, rejected = example.rewards[pair[0]], example.rewards[pair[1]]
    return [one - other for one, other in zip(chosen, rejected, strict=True)]


def _warnings(spread: dict[str, float], total: float) -> list[str]:
    found = []
    if total < FELT:
        found.append(
            f"no margin is felt: together they move the logit by {total:.3g}, and below {FELT} that is nothing. "
            "Raise the weights of the margin criteria or the scale of the rewards."
        )
    if total > DROWNING:
        found.append(
            f"the margins drown the preferences: they move the logit by {total:.3g}, and above {DROWNING} most pairs "
            "have a flat loss. Lower the weights of the margin criteria or raise the anchor's."
        )
    largest = max(spread, key=lambda name: spread[name])
    sum_of_spreads = sum(spread.values())
    if len(spread) > 1 and sum_of_spreads > 0 and spread[largest] > DOMINANT * sum_of_spreads:
        found.append(
            f"{largest} dominates: it makes {spread[largest] / sum_of_spreads:.0%} of the margins. Put the rewards "
            "on one scale (rewards.scale: zscore or calibrated) or lower its weight."
        )
    return found
