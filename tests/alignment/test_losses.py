"""The losses against TRL's, against finite differences and against the equations written out with NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modpo_hpc.alignment.losses import dpo_loss, joint_dpo_loss, log_ratio, modpo_loss, sft_loss


def draw(seed: int, *shape: int, scale: float = 3.0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape) * scale, dtype=torch.float32)


def logps(seed: int, batch: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    first, second, third, fourth = draw(seed, 4, batch, scale=20.0) - 60
    return first, second, third, fourth


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), beta=st.floats(0.01, 5), criteria=st.integers(2, 6))
def test_modpo_is_equation_2(seed: int, beta: float, criteria: int) -> None:
    sums = logps(seed)
    chosen, rejected = draw(seed + 1, 8, criteria - 1), draw(seed + 2, 8, criteria - 1)
    weights = torch.rand(criteria, generator=torch.Generator().manual_seed(seed)) + 0.05
    losses, _ = modpo_loss(*sums, chosen, rejected, weights, beta)
    policy_chosen, policy_rejected, ref_chosen, ref_rejected = (one.double().numpy() for one in sums)
    w = weights.double().numpy()
    for example in range(8):
        h = np.log(1) + (policy_chosen - ref_chosen)[example] - (policy_rejected - ref_rejected)[example]
        margin = sum(
            w[j + 1] * float(chosen[example, j].double() - rejected[example, j].double()) for j in range(criteria - 1)
        )
        expected = np.logaddexp(0, -(beta * h - margin) / w[0])
        assert float(losses[example]) == pytest.approx(expected, rel=2e-5, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), beta=st.floats(0.01, 5))
def test_modpo_with_weight_one_on_the_anchor_is_dpo_to_the_last_bit(seed: int, beta: float) -> None:
    sums = logps(seed)
    margins = draw(seed + 1, 2, 8, 1, scale=50)
    with_margins, metrics = modpo_loss(*sums, margins[0], margins[1], torch.tensor([1.0, 0.0]), beta)
    plain, of_dpo = dpo_loss(*sums, beta)
    assert torch.equal(with_margins, plain)
    assert torch.equal(metrics["logit"], of_dpo["logit"])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), beta=st.floats(0.01, 5), anchor=st.floats(0.05, 1))
def test_modpo_without_margins_is_dpo_at_beta_over_the_anchors_weight(seed: int, beta: float, anchor: float) -> None:
    sums, nothing = logps(seed), torch.zeros(8, 1)
    placebo, _ = modpo_loss(*sums, nothing, nothing, torch.tensor([anchor, 1 - anchor]), beta)
    plain, _ = dpo_loss(*sums, beta / anchor)
    torch.testing.assert_close(placebo, plain, rtol=1e-5, atol=1e-5)


def test_weights_are_used_as_given() -> None:
    sums = logps(3)
    margins = draw(4, 2, 8, 1)
    one, _ = modpo_loss(*sums, *margins, torch.tensor([0.5, 0.5]), 0.1)  # type: ignore[call-arg]
    twice, _ = modpo_loss(*sums, *margins, torch.tensor([1.0, 1.0]), 0.1)  # type: ignore[call-arg]
    assert not torch.allclose(one, twice)


def test_joint_is_one_log_sigmoid_of_the_weighted_sum() -> None:
    h = draw(5, 3, 8)
    weights = torch.tensor([0.5, 0.3, 0.2])
    losses, _ = joint_dpo_loss(h, weights, 0.7)
    expected = np.logaddexp(0, -0.7 * (0.5 * h[0] + 0.3 * h[1] + 0.2 * h[2]).numpy())
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5)


def test_joint_of_one_criterion_is_dpo() -> None:
    sums = logps(6)
    joint, _ = joint_dpo_loss(log_ratio(*sums)[None], torch.ones(1), 0.3)
    torch.testing.assert_close(joint, dpo_loss(*sums, 0.3)[0])


def test_sft_is_the_mean_over_the_tokens_of_the_response() -> None:
    losses, _ = sft_loss(torch.tensor([-10.0, -3.0]), torch.tensor([5.0, 1.0]))
    torch.testing.assert_close(losses, torch.tensor([2.0, 3.0]))


def test_label_smoothing_mixes_both_directions() -> None:
    sums = logps(7)
    swapped = (sums[1], sums[0], sums[3], sums[2])
    smooth, _ = dpo_loss(*sums, 0.1, label_smoothing=0.2)
    torch.testing.assert_close(smooth, 0.8 * dpo_loss(*sums, 0.1)[0] + 0.2 * dpo_loss(*swapped, 0.1)[0])


def test_metrics_say_what_the_policy_prefers() -> None:
    sums = logps(8)
    _, metrics = dpo_loss(*sums, 0.1)
    h = log_ratio(*sums)
    torch.testing.assert_close(metrics["accuracy"], (h > 0).float())
    torch.testing.assert_close(metrics["reward_margin"], 0.1 * h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dpo", "smoothed", "modpo", "joint"])
def test_gradients_equal_finite_differences(name: str) -> None:
    sums = [one.double().requires_grad_() for one in logps(9, batch=3)]
    margins = draw(10, 2, 3, 2).double()
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    functions = {
        "dpo": lambda *s: dpo_loss(*s, 0.1)[0],  # type: ignore[call-arg]
        "smoothed": lambda *s: dpo_loss(*s, 0.1, 0.1)[0],  # type: ignore[call-arg]
        "modpo": lambda *s: modpo_loss(*s, *margins, weights, 0.1)[0],  # type: ignore[call-arg]
        "joint": lambda *s: joint_dpo_loss(torch.stack((log_ratio(*s), s[0] - s[3], s[2] - s[1])), weights, 0.1)[0],
    }
    assert torch.autograd.gradcheck(functions[name], tuple(sums))
