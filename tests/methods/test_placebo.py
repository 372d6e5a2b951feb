"""Placebos of MODPO: the same weights, and margins that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modpo_hpc.alignment.collator import collate
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.losses import dpo_loss
from modpo_hpc.alignment.trees import Tree
from modpo_hpc.evaluation.analysis import placebos_of
from modpo_hpc.methods.modpo import MODPO
from modpo_hpc.study.alignment import Training
from tests.synthetic_verdicts import small_study

CRITERIA = {"empathy": 0.4, "safety": 0.6}


def examples(count: int = 40) -> list[Example]:
    """Questions of three responses; the reward of each is a number of its own."""
    rng = np.random.default_rng(0)
    return [
        Example(
            f"q{number}",
            Tree((1, 2), ((3,), (4,), (5,))),
            ("a", "b", "c"),
            (tuple(int(one) for one in rng.permutation(3)[:2]), None),  # type: ignore[arg-type]
            reference=(-1.0, -2.0, -3.0),
            rewards=tuple((float(10 * number + place),) for place in range(3)),
        )
        for number in range(count)
    ]


def margins(one: Example) -> tuple[float, float]:
    pair = one.pairs[0]
    assert pair is not None
    return one.rewards[pair[0]][0], one.rewards[pair[1]][0]


def test_shuffled_margins_are_those_of_other_questions_each_once() -> None:
    policy = MODPO(criteria=CRITERIA, margins="shuffled")
    before = examples()
    after = policy.prepare(before, seed=5)
    assert sorted(map(margins, after)) == sorted(map(margins, before))
    assert sum(margins(a) != margins(b) for a, b in zip(after, before, strict=True)) > 30
    assert [one.pairs for one in after] == [one.pairs for one in before]
    assert policy.prepare(before, seed=5) == after
    assert policy.prepare(before, seed=6) != after
    assert MODPO(criteria=CRITERIA).prepare(before, seed=5) is before


def test_zero_margins_need_no_rewards_and_are_dpo_at_beta_over_the_weight() -> None:
    policy = MODPO(criteria=CRITERIA, margins="zero")
    assert policy.margin_criteria == ()
    batch = collate([one.with_criteria(1) for one in examples(6)])
    logps = torch.linspace(-4, -1, batch.reference.numel())
    losses, _ = policy.loss(batch, logps, Training(beta=0.3))
    expected, _ = dpo_loss(*batch.anchor_sums(logps), 0.3 / 0.4)
    torch.testing.assert_close(losses, expected)


def test_a_policy_without_margins_is_reported_without_them() -> None:
    zero, summary = MODPO(criteria=CRITERIA, margins="zero"), {"margins": None}
    assert (zero.figures(summary), zero.findings(summary)) == ({}, [])


def test_a_study_knows_which_policies_are_placebos_of_which() -> None:
    policies = {
        "Base": {"method": "base"},
        "DPO": {"method": "dpo", "criteria": {"empathy": 1}},
        "MODPO": {"method": "modpo", "criteria": CRITERIA},
        "Zero": {"method": "modpo", "criteria": CRITERIA, "margins": "zero"},
        "Shuffled": {"method": "modpo", "criteria": CRITERIA, "margins": "shuffled"},
        "Other": {"method": "modpo", "criteria": {"empathy": 0.5, "safety": 0.5}, "margins": "zero"},
    }
    phases = {"one": {"policies": list(policies), "criteria": ["safety"]}}
    study = small_study(alignment={"policies": policies}, judging={"personas_per_question": 20, "phases": phases})
    assert placebos_of(study) == {"MODPO": ["Zero", "Shuffled"]}


def test_an_unknown_kind_of_margins_is_refused() -> None:
    with pytest.raises(ValueError, match="margins"):
        MODPO(criteria=CRITERIA, margins="none")  # type: ignore[arg-type]
