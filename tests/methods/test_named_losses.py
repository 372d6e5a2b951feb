"""The losses of named systems against formulas written from their papers with NumPy, and where TRL has it, TRL's."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from modpo_hpc.alignment.collator import Batch, collate
from modpo_hpc.alignment.examples import Example, join_examples
from modpo_hpc.alignment.losses import dpo_loss
from modpo_hpc.alignment.trees import Tree
from modpo_hpc.methods.group_robust import GroupRobustDPO
from modpo_hpc.methods.listwise import ListwiseDPO
from modpo_hpc.methods.raco import RACO, conflict_averse
from modpo_hpc.methods.safe_dpo import SafeDPO
from modpo_hpc.study.alignment import Training

CRITERIA = {"empathy": 0.3, "safety": 0.7}


def examples(count: int, criteria: int, seed: int = 0, responses: int = 5) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [
        Example(
            f"q{number}",
            Tree((1, 2), tuple((3, 4 + place) for place in range(responses))),
            tuple(f"q{number}.r{place}" for place in range(responses)),
            tuple(tuple(int(one) for one in rng.permutation(responses)[:2]) for _ in range(criteria)),  # type: ignore[misc]
            reference=tuple(rng.normal(-30, 5, responses).tolist()),
            votes=tuple(map(tuple, rng.normal(0, 1, (responses, criteria)).tolist())),
        )
        for number in range(count)
    ]


def policy_logps(batch: Batch, seed: int = 1) -> torch.Tensor:
    noise = np.random.default_rng(seed).normal(0, 3, batch.reference.numel())
    return (batch.reference.double() + torch.from_numpy(noise)).requires_grad_()


def listwise(example: Example, logps: np.ndarray, beta: float, temperature: float) -> float:
    """The loss of one question, term by term: cross-entropy of the two softmaxes."""
    ratio = [math.exp(beta * (logp - ref)) for logp, ref in zip(logps, example.reference, strict=True)]
    loss = 0.0
    for k, weight in enumerate(CRITERIA.values()):
        wanted = [math.exp(votes[k] / temperature) for votes in example.votes]
        loss -= weight * sum(w / sum(wanted) * math.log(r / sum(ratio)) for w, r in zip(wanted, ratio, strict=True))
    return loss


@pytest.mark.parametrize("seed", range(5))
def test_listwise_is_the_formula_of_the_paper(seed: int) -> None:
    some, beta, temperature = examples(4, 2, seed), 0.2 + 0.1 * seed, 0.5 + 0.3 * seed
    batch = collate(some)
    logps = policy_logps(batch, seed)
    losses, _ = ListwiseDPO(criteria=CRITERIA, temperature=temperature).loss(batch, logps, Training(beta=beta))
    by_hand = [
        listwise(one, logps.detach().numpy()[5 * n : 5 * n + 5], beta, temperature) for n, one in enumerate(some)
    ]
    assert losses.tolist() == pytest.approx(by_hand, rel=1e-5)


def test_the_slope_of_listwise_is_the_difference_of_the_two_distributions() -> None:
    """d loss / d logp_i = beta (sum_k w_k softmax(reward)_i - sum_k w_k p_k,i)."""
    (one,) = examples(1, 2)
    batch = collate([one])
    logps = policy_logps(batch)
    losses, metrics = ListwiseDPO(criteria=CRITERIA).loss(batch, logps, Training(beta=0.4))
    (slope,) = torch.autograd.grad(losses.sum(), logps)
    weights = torch.tensor(list(CRITERIA.values()), dtype=torch.float64)
    mine = torch.softmax(0.4 * (logps - batch.reference), 0) * weights.sum()
    wanted = torch.softmax(batch.votes.double(), 0) @ weights
    torch.testing.assert_close(slope, 0.4 * (mine - wanted), rtol=1e-5, atol=1e-6)
    at_optimum = (torch.log(wanted) / 0.4 + batch.reference).double()
    assert metrics["divergence"][0] > 0
    best, _ = ListwiseDPO(criteria=CRITERIA).loss(batch, at_optimum, Training(beta=0.4))
    assert best[0] < losses[0]


def test_listwise_of_two_responses_that_all_agree_on_is_dpo() -> None:
    some = [replace(one, pairs=((0, 1),), votes=((40.0,), (-40.0,))) for one in examples(6, 1, responses=2)]
    batch = collate(some)
    logps = policy_logps(batch)
    losses, _ = ListwiseDPO(criteria={"empathy": 1}).loss(batch, logps, Training(beta=0.3))
    torch.testing.assert_close(losses, dpo_loss(*batch.anchor_sums(logps), 0.3)[0])


def test_listwise_needs_every_response_to_fit() -> None:
    responses = {"q0": {"a": (1, 2), "b": (1, 2), "c": tuple(range(9))}, "q1": {"a": (1, 2), "b": (1, 2), "c": (1,)}}
    pairs = {"empathy": {"q0": ("a", "b"), "q1": ("a", "b")}}
    prompts = {"q0": (1,), "q1": (1,)}
    kept, _ = join_examples(["empathy"], 1, prompts, responses, pairs, {}, 8)
    assert len(kept) == 2
    kept, dropped = join_examples(["empathy"], 1, prompts, responses, pairs, {}, 8, {}, all_responses=True)
    assert not kept
    assert [one.reason for one in dropped] == ["c has 10 tokens with its prompt, more than max_length 8", "c is empty"]


def labelled(chosen: float, rejected: float) -> Example:
    (one,) = examples(1, 1)
    return replace(one, pairs=((0, 1),), votes=((chosen,), (rejected,), (0.0,), (0.0,), (0.0,)))


def test_safe_dpo_turns_round_and_leaves_out() -> None:
    """The paper's transformation of the data, all four cases; a vote of exactly the middle is safe."""
    policy = SafeDPO(criteria={"empathy": 1})
    for chosen, rejected, wanted in ((1, 1, (0, 1)), (1, -1, (0, 1)), (-1, 1, (1, 0)), (-1, -1, None), (0, -1, (0, 1))):
        found = policy.prepare([labelled(chosen, rejected)], seed=0)
        assert [one.pairs[0] for one in found] == ([wanted] if wanted else []), (chosen, rejected)


def test_safe_dpo_is_equation_12() -> None:
    policy = SafeDPO(criteria={"empathy": 1}, offset=2.5, unsafe_below=-0.5)
    some = policy.prepare([replace(one, votes=tuple((v[0],) for v in one.votes)) for one in examples(40, 1)], seed=0)
    batch = collate(some)
    logps = policy_logps(batch)
    losses, _ = policy.loss(batch, logps, Training(beta=0.3))
    flat, place, expected = logps.detach().numpy(), 0, []
    for one in some:
        assert one.pairs[0] is not None
        pair = one.pairs[0]
        ratio = [flat[place + at] - one.reference[at] for at in pair]
        unsafe = [float(one.votes[at][0] < -0.5) for at in pair]
        expected.append(np.logaddexp(0, -(0.3 * (ratio[0] - ratio[1]) - (unsafe[1] - unsafe[0]) * 2.5)))
        place += len(one.votes)
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    assert 0.1 < policy.diagnose("X", some, Training()).figures["unsafe_rejected"] < 0.9


def test_safe_dpo_without_an_unsafe_response_is_dpo() -> None:
    policy = SafeDPO(criteria={"empathy": 1}, unsafe_below=-100)
    before = examples(8, 1)
    assert policy.prepare(before, seed=0) == before
    batch = collate(before)
    logps = policy_logps(batch)
    torch.testing.assert_close(
        policy.loss(batch, logps, Training(beta=0.3))[0], dpo_loss(*batch.anchor_sums(logps), 0.3)[0]
    )


def best_on_a_grid(gradients: np.ndarray, weights: np.ndarray, radius: float) -> np.ndarray:
    """The minimum of CAGrad's dual over a fine grid of the simplex, from the gradients themselves."""
    steps = 400 if len(weights) == 2 else 80
    grid = [
        np.array([*head, steps - sum(head)]) / steps
        for head in np.ndindex(*[steps + 1] * (len(weights) - 1))
        if sum(head) <= steps
    ]
    anchor = weights @ gradients
    return min(
        grid,
        key=lambda p: float((p @ gradients) @ anchor + radius * np.linalg.norm(anchor) * np.linalg.norm(p @ gradients)),
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("criteria", "seed"), [(2, 0), (2, 1), (2, 2), (3, 3), (3, 4)])
def test_raco_is_the_clipped_step_of_the_paper(criteria: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(criteria, 7))
    gradients[1] -= 1.2 * gradients[0]  # a conflict
    gradients *= scale
    weights, radius = rng.dirichlet(np.ones(criteria)), 0.4
    found = conflict_averse(gradients @ gradients.T, weights, radius, clip=True) @ gradients
    anchor, clipped = weights @ gradients, np.minimum(best_on_a_grid(gradients, weights, radius), weights) @ gradients
    expected = anchor + radius * np.linalg.norm(anchor) * clipped / np.linalg.norm(clipped)
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)  # the grid's own width


def test_raco_without_clipping_is_the_best_worst_descent_within_the_radius() -> None:
    """CAGrad's primal: of all steps within the radius of the weighted gradient, the one whose worst descent is best."""
    rng = np.random.default_rng(5)
    gradients = rng.normal(size=(2, 2))
    gradients[1] -= gradients[0]
    weights, radius = np.array([0.7, 0.3]), 0.5
    anchor = weights @ gradients
    step = conflict_averse(gradients @ gradients.T, weights, radius, clip=False) @ gradients
    reach = radius * np.linalg.norm(anchor)
    assert np.linalg.norm(step - anchor) == pytest.approx(reach, rel=1e-6)
    turns = np.linspace(0, 2 * np.pi, 20_000)
    around = anchor + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    assert (gradients @ step).min() == pytest.approx((around @ gradients.T).min(axis=1).max(), rel=1e-4)


def test_raco_at_radius_zero_and_for_gradients_of_nothing_is_the_weighted_sum() -> None:
    weights = np.array([0.25, 0.75])
    assert conflict_averse(np.eye(2), weights, 0.0, clip=True).tolist() == weights.tolist()
    assert conflict_averse(np.zeros((2, 2)), weights, 0.4, clip=True).tolist() == weights.tolist()


def test_raco_takes_dpo_of_each_criterion() -> None:
    some = examples(6, 2)
    batch = collate(some)
    logps = policy_logps(batch)
    policy = RACO(criteria=CRITERIA)
    each, there = policy.losses_apart(batch, logps, Training(beta=0.3))
    assert bool(there.all())
    for row, weight in enumerate(CRITERIA.values()):
        alone = collate([replace(one, pairs=(one.pairs[row],)) for one in some])
        torch.testing.assert_close(each[row], dpo_loss(*alone.anchor_sums(logps), 0.3)[0])
        assert weight > 0
    torch.testing.assert_close(policy.loss(batch, logps, Training(beta=0.3))[0], 0.3 * each[0] + 0.7 * each[1])


def test_the_weights_of_groups_follow_their_losses() -> None:
    """Twenty steps against exponentiated gradient ascent written with NumPy, a group missing now and then."""
    policy, rng = GroupRobustDPO(criteria={"empathy": 1}, step=0.3), np.random.default_rng(0)
    before, wanted = None, np.full(3, 1 / 3)
    for step in range(20):
        losses = rng.uniform(0.2, 0.9, 3)
        if step % 5 == 4:
            losses[1] = np.nan
        there = ~np.isnan(losses)
        raised = wanted[there] * np.exp(0.3 * losses[there])
        wanted[there] = raised / raised.sum() * wanted[there].sum()
        before = policy.mixture(torch.from_numpy(losses), torch.eye(3), before)
        assert before.tolist() == pytest.approx(wanted.tolist(), rel=1e-9)
    assert float(before.sum()) == pytest.approx(1)


def test_a_groups_loss_is_dpo_on_its_own_pairs() -> None:
    some = [
        replace(one, pairs=(one.pairs[0], one.pairs[1], None if n % 2 else one.pairs[2]))
        for n, one in enumerate(examples(6, 3))
    ]
    batch = collate(some)
    logps = policy_logps(batch)
    each, there = GroupRobustDPO(criteria={"empathy": 1}).losses_apart(batch, logps, Training(beta=0.3))
    assert there.tolist() == [[True] * 6, [n % 2 == 0 for n in range(6)]]
    alone = collate([replace(one, pairs=(one.pairs[1],)) for one in some])
    torch.testing.assert_close(each[0], dpo_loss(*alone.anchor_sums(logps), 0.3)[0])
