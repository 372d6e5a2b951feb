"""Gradients taken apart and put together, against each objective's gradient made by a training of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modpo_hpc.alignment.apart import Objective, put_together
from modpo_hpc.alignment.batches import plan_batches
from modpo_hpc.alignment.collator import collate
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.losses import dpo_loss
from modpo_hpc.alignment.training import PolicyLearner, step_gradients
from modpo_hpc.methods import Trained
from modpo_hpc.methods.group_robust import GroupRobustDPO
from modpo_hpc.methods.joint_dpo import JointDPO
from modpo_hpc.methods.raco import RACO, conflict_averse
from tests.alignment.families import FAMILIES, tiny
from tests.alignment.test_families import with_adapter
from tests.alignment.test_passes import SETTINGS, SmallCard, examples

MODEL = FAMILIES["Llama"]


def two_objectives() -> list[Example]:
    """Four questions with a pair of each criterion, before any method has a view of them."""
    return examples(JointDPO(criteria={"a": 0.5, "b": 0.5}))


def alone(made: list[Example], row: int) -> torch.Tensor:
    """The gradient of the mean DPO loss of the pairs in one row, by one backward pass through one graph."""
    engine = SmallCard(with_adapter(tiny(MODEL)), 10**6)
    engine.train(True)
    batch = collate([replace(one, pairs=(one.pairs[row],)) for one in made if one.pairs[row]])
    losses, _ = dpo_loss(*batch.anchor_sums(engine.logps(batch.packed)), SETTINGS.beta)
    engine.backward(losses.mean(), last=True)
    return engine.gradients()


def together(
    policy: Trained, made: list[Example], holds: int, passes: int, before: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    engine = SmallCard(with_adapter(tiny(MODEL)), holds)
    plan = plan_batches([one.tree.tokens for one in made], 0, 1, 4, passes)
    gradients, means = [], []
    for place in range(2):
        means.append(step_gradients(engine, Objective(policy, place), SETTINGS, made, plan[0]))
        gradients.append(engine.gradients())
    mixture, row = put_together(engine, policy, ("one", "two"), gradients, means, before)
    return engine.gradients(), mixture, row


@pytest.mark.parametrize(("holds", "passes"), [(10**6, 4), (10**6, 1), (45, 4)], ids=["one", "four", "by response"])
@pytest.mark.parametrize("radius", [0.0, 0.6])
def test_racos_step_is_that_of_gradients_made_one_by_one(radius: float, holds: int, passes: int) -> None:
    made, weights = two_objectives(), {"a": 0.3, "b": 0.7}
    each = torch.stack([alone(made, 0), alone(made, 1)])
    mixture = conflict_averse((each @ each.T).double().numpy(), torch.tensor([0.3, 0.7]).double().numpy(), radius, True)
    expected = torch.from_numpy(mixture).to(each) @ each
    found, used, row = together(RACO(criteria=weights, radius=radius), made, holds, passes)
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    assert used.tolist() == pytest.approx(mixture.tolist(), rel=1e-3)
    assert (row["mixture of one"], row["mixture of two"]) == pytest.approx(tuple(mixture), rel=1e-3)
    if radius == 0:
        assert mixture.tolist() == pytest.approx([0.3, 0.7])


def test_a_group_without_all_pairs_has_the_mean_over_those_it_has() -> None:
    made = [
        replace(one, pairs=(one.pairs[0], one.pairs[0], one.pairs[1] if n < 3 else None))
        for n, one in enumerate(two_objectives())
    ]
    before = torch.tensor([0.2, 0.8], dtype=torch.float64)
    policy = GroupRobustDPO(criteria={"a": 1}, step=0.5)
    found, mixture, row = together(policy, made, 10**6, 2, before)
    expected = mixture.float() @ torch.stack([alone(made, 1), alone(made, 2)])
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    losses = torch.tensor([row["loss of one"], row["loss of two"]], dtype=torch.float64)
    raised = before * torch.exp(0.5 * losses)
    assert mixture.tolist() == pytest.approx((raised / raised.sum()).tolist())
    assert row["loss"] == pytest.approx(float(mixture @ losses))


def test_a_group_that_is_not_in_the_batch_counts_for_nothing_and_keeps_its_weight() -> None:
    made = [replace(one, pairs=(one.pairs[0], one.pairs[0], None)) for one in two_objectives()]
    before = torch.tensor([0.2, 0.8], dtype=torch.float64)
    found, mixture, row = together(GroupRobustDPO(criteria={"a": 1}), made, 10**6, 4, before)
    assert mixture.tolist() == pytest.approx([0.2, 0.8])
    expected = 0.2 * alone(made, 1)
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    assert "loss of two" not in row


def test_a_training_that_is_resumed_goes_on_with_its_mixture(tmp_path: Path) -> None:
    pairs = [replace(one, pairs=(one.pairs[0], *one.pairs)) for one in two_objectives()]
    policy = GroupRobustDPO(criteria={"a": 1}, step=2.0)

    def learner() -> PolicyLearner:
        settings = SETTINGS.model_copy(update={"epochs": 3})
        engine = SmallCard(with_adapter(tiny(MODEL)), 10**6)
        return PolicyLearner(engine, policy, settings, pairs, [], 0, None, ("one", "two"))

    first, second = learner(), learner()
    for number in range(2):
        first.gradients(number)
        first.update(number)
    first.save(tmp_path)
    second.load(tmp_path)
    row, same = first.gradients(2), second.gradients(2)
    assert same == row
    assert row["mixture of one"] != pytest.approx(0.5, abs=1e-6)
