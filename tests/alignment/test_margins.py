"""What the log says of margins before a training: against the slope of the loss itself, and when it warns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.losses import modpo_loss
from modpo_hpc.alignment.margins import MarginReport, report_margins
from modpo_hpc.alignment.trees import Tree

WEIGHTS, BETA = (0.4, 0.6), 0.5


def reported(margins: Sequence[float], weights: tuple[float, float] = WEIGHTS) -> MarginReport:
    """The report on pairs whose chosen response has so much more of the second criterion's reward."""
    examples = [
        Example(f"q{n}", Tree((1, 2), ((3,), (4,))), ("a", "b"), ((0, 1), None), (-1.0, -2.0), ((float(one),), (0.0,)))
        for n, one in enumerate(margins)
    ]
    return report_margins(examples, ("empathy", "safety"), weights, BETA)


def test_flat_pairs_are_those_at_which_the_loss_itself_hardly_pulls() -> None:
    """The slope of MODPO's loss in the logit at the start, by autograd."""
    margins = np.random.default_rng(0).normal(-1, 3, 400)
    chosen = torch.zeros(400, requires_grad=True)
    nothing, rewards = torch.zeros(400), torch.tensor(margins, dtype=torch.float32)[:, None]
    weights = torch.tensor(WEIGHTS)
    losses, _ = modpo_loss(chosen, nothing, nothing, nothing, rewards, torch.zeros(400, 1), weights, BETA)
    (slope,) = torch.autograd.grad(losses.sum(), chosen)
    pull = -slope.numpy() * WEIGHTS[0] / BETA
    found = reported(margins)
    assert found.flat == pytest.approx((pull < 0.05).mean())
    assert 0 < found.flat < 1
    assert found.total_spread == pytest.approx(1.5 * margins.std())


@pytest.mark.parametrize(
    ("margins", "warned"),
    [
        (np.random.default_rng(1).normal(0, 4, 300), ""),  # a spread of 6: large, and most pairs still pull
        (np.random.default_rng(2).normal(-8, 1, 300), "drown"),
        (np.random.default_rng(3).normal(8, 1, 300), ""),  # the margins ask for more than the pairs do: none is flat
        (np.random.default_rng(4).normal(0, 0.01, 300), "no margin is felt"),
    ],
)
def test_it_warns_of_margins_that_leave_nothing_to_learn_and_not_of_large_ones(
    margins: np.ndarray, warned: str
) -> None:
    found = reported(margins)
    assert [one for one in found.warnings if warned in one] == list(found.warnings)
    assert bool(found.warnings) == bool(warned)
