"""The numbers of the worked example in the docs are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modpo_hpc.alignment.losses import dpo_loss, joint_dpo_loss, modpo_loss, sft_loss
from modpo_hpc.alignment.margins import DOMINANT, FELT, MOSTLY, STEEP

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "alignment.md").read_text()


def one(value: float) -> torch.Tensor:
    return torch.tensor([value])


def test_the_worked_pair() -> None:
    sums = (one(-41.0), one(-52.0), one(-44.0), one(-50.0))
    weights = torch.tensor([0.5, 0.3, 0.2])
    found = {
        "dpo": dpo_loss(*sums, 0.1)[0],
        "modpo": modpo_loss(*sums, torch.tensor([[0.2, 1.1]]), torch.tensor([[0.9, 0.6]]), weights, 0.1)[0],
        "joint": joint_dpo_loss(torch.tensor([[5.0], [-2.0], [1.0]]), weights, 0.1)[0],
    }
    for loss in found.values():
        assert f"{float(loss):.4f}" in PAGE
    assert float(sft_loss(one(-41.0), one(20.0))[0]) == pytest.approx(2.05)


def test_the_rules_of_thumb_are_the_warnings() -> None:
    assert f"sum below {FELT}" in PAGE
    assert f"slope below {STEEP}" in PAGE
    assert f"flat for more than {MOSTLY:.0%}" in PAGE
    assert f"above {DOMINANT:.0%} of the parts" in PAGE
