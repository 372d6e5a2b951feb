"""Do the margins of MODPO do anything? Their spread beside the spread of ``beta*h`` that they work against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modpo_hpc.alignment.examples import Example

FELT = 0.1
STEEP = 0.05
MOSTLY = 0.5
DOMINANT = 0.8


@dataclass(frozen=True)
class MarginReport:
    """How far the margins move the logit of the loss, over the training pairs.

    Attributes:
        spread: for each margin criterion the standard deviation of ``w_j * (r_chosen - r_rejected) / w_0``.
        total_spread: that of their sum.
        flat: share of the pairs that the loss hardly pulls at when training starts: the margins alone make the logit
            so large that its slope is below ``STEEP``.
        nats: ``total_spread * w_0 / beta``: by how many nats ``h`` has to move from pair to pair to follow the margins.
        warnings: one sentence for each thing that is likely to be wrong.
    """

    spread: dict[str, float]
    total_spread: float
    flat: float
    nats: float
    warnings: tuple[str, ...]


def report_margins(
    examples: Sequence[Example], criteria: Sequence[str], weights: Sequence[float], beta: float
) -> MarginReport:
    """The report for MODPO with ``criteria`` and ``weights``, the anchor first."""
    chosen, rejected = (np.array([one.rewards[one.anchor[side]] for one in examples]) for side in (0, 1))
    felt = (chosen - rejected) * np.array(weights[1:]) / weights[0]
    spread = dict(zip(criteria[1:], felt.std(axis=0).tolist(), strict=True))
    total = float(felt.sum(axis=1).std())
    # the slope of -log sigmoid((beta h - margin) / w_0) in its logit, at h = 0
    slope = 1 / (1 + np.exp(-felt.sum(axis=1)))
    flat = float((slope < STEEP).mean())
    return MarginReport(spread, total, flat, total * weights[0] / beta, tuple(_warnings(spread, total, flat)))


def _warnings(spread: dict[str, float], total: float, flat: float) -> list[str]:
    found = []
    if total < FELT:
        found.append(
            f"no margin is felt: together they move the logit by {total:.3g}, and below {FELT} that is nothing. "
            "Raise the weights of the margin criteria or the scale of the rewards."
        )
    if flat > MOSTLY:
        found.append(
            f"the margins drown the preferences: to {flat:.0%} of the pairs the loss is flat from the start. "
            "Lower the weights of the margin criteria or raise the anchor's."
        )
    largest = max(spread, key=lambda name: spread[name])
    sum_of_spreads = sum(spread.values())
    if len(spread) > 1 and sum_of_spreads > 0 and spread[largest] > DOMINANT * sum_of_spreads:
        found.append(
            f"{largest} dominates: it makes {spread[largest] / sum_of_spreads:.0%} of the margins. Put the rewards "
            "on one scale (rewards.scale: zscore or calibrated) or lower its weight."
        )
    return found
