"""HaM: values, the slopes of their hypervolume and the step that follows, against formulas written out; a placebo."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from modpo_hpc.alignment.collator import collate
from modpo_hpc.alignment.examples import Example
from modpo_hpc.methods.ham import HaM, values_of, volume_slopes
from modpo_hpc.study.alignment import Training
from tests.methods.test_named_losses import examples, policy_logps
from tests.tiny_study import why_refused

CRITERIA = {"empathy": 0.3, "safety": 0.7}


def rewarded(count: int, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [
        replace(one, rewards=tuple(map(tuple, rng.normal(0, 2, (5, 2)).tolist()))) for one in examples(count, 2, seed)
    ]


def volume(points: Tensor) -> Tensor:
    """By inclusion and exclusion: boxes from zero, less what two share, and so on."""
    total = points.new_zeros(())
    for size in range(1, len(points) + 1):
        for some in combinations(range(len(points)), size):
            total = total - (-1) ** size * points[list(some)].min(dim=0).values.prod()
    return total


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_values_are_what_answers_would_earn_and_their_entropy(beta: float) -> None:
    some = rewarded(4)
    batch = collate(some)
    logps = policy_logps(batch)
    found = values_of(batch, logps, beta)
    for n, one in enumerate(some):
        ratio = logps.detach().numpy()[5 * n : 5 * n + 5] - np.array(one.reference)
        shares = np.exp(ratio) / np.exp(ratio).sum()
        entropy = -sum(p * np.log(p) for p in shares)
        for j in range(2):
            earned = sum(p * row[j] for p, row in zip(shares, one.rewards, strict=True))
            wanted = earned - min(row[j] for row in one.rewards) + beta * entropy
            assert found[j, n].item() == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_the_best_value_is_that_of_the_policy_that_rewards_tilt() -> None:
    """``p ~ exp(reward / beta)`` has the value ``beta log sum exp(reward / beta)``, and no other policy has as much."""
    some, beta = rewarded(6), 0.7
    batch = collate(some)
    best = batch.reference.double() + batch.rewards[:, 1].double() / beta
    above = torch.tensor([one.rewards for one in some], dtype=torch.float64)[..., 1]
    wanted = beta * ((above - above.min(1, keepdim=True).values) / beta).exp().sum(1).log()
    torch.testing.assert_close(values_of(batch, best, beta)[1], wanted, rtol=1e-4, atol=1e-4)
    assert bool((values_of(batch, policy_logps(batch), beta)[1] < wanted).all())


@pytest.mark.parametrize("criteria", [2, 3])
def test_slopes_are_those_of_the_volume(criteria: int) -> None:
    for seed in range(20):
        draw = np.random.default_rng(seed)
        directions = draw.uniform(0.1, 1, (4, criteria))
        values = directions / np.linalg.norm(directions, axis=1, keepdims=True)  # none dominates another
        points = torch.from_numpy(values).requires_grad_()
        (wanted,) = torch.autograd.grad(volume(points), points)
        assert volume_slopes(values) == pytest.approx(wanted.numpy(), abs=1e-9)


def test_what_is_dominated_is_taken_for_itself_and_what_is_below_zero_not_at_all() -> None:
    values = np.array([[3.0, 2.0], [2.0, 3.0], [1.0, 1.5], [-1.0, 4.0]])
    assert volume_slopes(values).tolist() == [[2.0, 1.0], [1.0, 2.0], [1.5, 1.0], [0.0, 0.0]]


def stepped(policy: HaM, made: list[Example], logps: list[Tensor]) -> list[Tensor]:
    """The gradient by each policy's log-probs: objectives apart, put together by the policy's rule."""
    batch, wide = collate(made), len(policy.criteria)
    losses = [policy.losses_apart(batch, logps[place // wide], Training(beta=0.5))[0][place].mean()
              for place in range(len(policy.objectives))]  # fmt: skip
    mixture = policy.mixture(torch.stack(losses).detach(), torch.eye(len(losses)), None)
    total = sum(weight * loss for weight, loss in zip(mixture, losses, strict=True))
    return list(torch.autograd.grad(total, logps))


def test_a_step_climbs_the_volume_of_all_policies_at_once() -> None:
    policy, made = HaM(criteria=CRITERIA, policies=3), rewarded(8)
    batch = collate(made)
    tilts = ((2.0, 0.1), (1.2, 1.0), (0.1, 2.0))
    logps = [
        (batch.reference.double() + batch.rewards.double() @ torch.tensor(tilt, dtype=torch.float64)).requires_grad_()
        for tilt in tilts
    ]
    points = torch.stack([values_of(batch, one, 0.5).mean(1) for one in logps])
    wanted = torch.autograd.grad(-volume(points), logps)
    assert all(float(one.abs().max()) > 1e-3 for one in wanted)
    for mine, one in zip(stepped(policy, made, logps), wanted, strict=True):
        torch.testing.assert_close(mine, one)


def test_rewards_of_other_questions_teach_nothing() -> None:
    """The placebo: trained on these, three policies have no more volume by the true rewards than they began with."""
    policy, made = HaM(criteria=CRITERIA, policies=3), rewarded(60)
    true = collate(made)
    shuffled = [replace(one, rewards=made[n - 1].rewards) for n, one in enumerate(made)]

    def reached(taught: list[Example]) -> float:
        logps = [policy_logps(true, seed).detach() * 0 + true.reference.double() for seed in range(3)]
        logps = [(one + 0.01 * torch.randn(one.shape, dtype=one.dtype)).requires_grad_() for one in logps]
        optimizer = torch.optim.Adam(logps, lr=0.1)
        for _ in range(60):
            for one, gradient in zip(logps, stepped(policy, taught, logps), strict=True):
                one.grad = gradient
            optimizer.step()
        points = torch.stack([values_of(true, one.detach(), 0.0).mean(1) for one in logps])
        return float(volume(points))

    torch.manual_seed(0)
    nothing = float(volume(values_of(true, true.reference.double(), 0.0).mean(1)[None]))
    assert reached(made) > 1.5 * nothing
    assert reached(shuffled) < 1.15 * nothing


WRONG = {
    "{method: ham, criteria: {empathy: 1, safety: 1}, answers_with: 4}": "answers_with is 4, and there are 3",
    "{method: ham, criteria: {empathy: 1}}": "at least two criteria",
    "{method: member, of: DPO_Empathy, number: 1}": "which is no policy of method ham",
}


@pytest.mark.parametrize("policy", WRONG)
def test_what_is_no_policy_of_ham_is_refused(policy: str) -> None:
    assert WRONG[policy] in why_refused(f"alignment.policies.X={policy}")
