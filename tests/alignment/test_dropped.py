"""Dropout and the first factor of a LoRA in one step: draws, values, gradients and random numbers of the two apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from modpo_hpc.alignment import adapter
from modpo_hpc.alignment.dropped import DroppedLinear, dropped_linear
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.study.alignment import Training

SHAPES = ((37, 64), (1, 37, 64), (2, 3, 37, 64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_dropout_and_linear_to_the_last_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    weight = torch.randn(8, 64, requires_grad=True)
    found = []
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        for way in (lambda: F.linear(F.dropout(x, 0.3), weight), lambda: dropped_linear(x, weight, 0.3)):
            torch.manual_seed(3)
            value = way()
            state = torch.get_rng_state()
            gradients = torch.autograd.grad((value.float() ** 2).sum(), (x, weight))
            assert torch.equal(torch.get_rng_state(), state), "the backward pass draws for itself"
            found.append((value, *gradients, state))
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_the_mask_of_the_gradient_is_that_of_the_value() -> None:
    """What was dropped has no slope, whatever was drawn in between."""
    x, weight = torch.ones(5, 400, requires_grad=True), torch.eye(400, requires_grad=True)
    value = dropped_linear(x, weight, 0.5)
    torch.rand(1000)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert torch.equal(slope, value)
    assert 0.4 < (value == 0).float().mean() < 0.6


def trained(model_folder: Path, dropout: float) -> tuple[list[torch.Tensor], int]:
    """Gradients of an adapter after a pass, and how many of its modules take the short way."""
    from transformers import AutoModelForCausalLM

    settings = Training(lora_rank=4, lora_dropout=dropout)
    adapted = adapter.attach_adapter(AutoModelForCausalLM.from_pretrained(model_folder), settings, "tiny", 0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    engine = PlainEngine(adapted, settings, torch.device("cpu"))
    engine.train(True)
    torch.manual_seed(7)
    engine.backward(engine.logps(pack([Tree((0, 5, 6), ((8, 9, 1), (7, 1)))])).sum(), last=True)
    names = sorted(adapter.adapter_weights(adapted))
    assert all("lora_" in name for name in names)
    gradients = [one.grad for one in adapted.parameters() if one.requires_grad]
    short = sum(isinstance(module, DroppedLinear) for module in adapted.modules())
    engine.train(False)
    with torch.no_grad():
        tree = pack([Tree((0, 5, 6), ((8, 9, 1),))])
        assert torch.equal(engine.logps(tree), engine.logps(tree)), "nothing is dropped in evaluation"
    return gradients, short


def test_an_adapter_has_the_gradients_that_peft_gives_it(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, short = trained(model_folder, 0.2)
    monkeypatch.setattr(adapter, "drop_without_copies", lambda _: None)
    pefts, none = trained(model_folder, 0.2)
    assert short > 0 == none
    assert len(mine) == len(pefts) == 2 * short
    assert all(torch.equal(one, other) for one, other in zip(mine, pefts, strict=True))


def test_without_dropout_pefts_own_modules_stay(model_folder: Path) -> None:
    assert trained(model_folder, 0.0)[1] == 0
