"""Passes by tokens; what does not fit is taken in parts with the same gradients, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from modpo_hpc.alignment.batches import plan_batches
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.passes import DoesNotFit, pass_gradients
from modpo_hpc.alignment.training import step_gradients
from modpo_hpc.alignment.trees import PackedTrees, Tree
from modpo_hpc.methods import Trained
from modpo_hpc.methods.dpo import DPO
from modpo_hpc.methods.joint_dpo import JointDPO
from modpo_hpc.study.alignment import Training
from tests.alignment.families import FAMILIES, tiny
from tests.alignment.test_families import tree, with_adapter

SETTINGS = Training(micro_batch_size=4, batch_size=4)
METHODS: dict[str, Trained] = {
    "DPO": DPO(criteria={"a": 1}),
    "Joint": JointDPO(criteria={"a": 0.7, "b": 0.3}),
}


class SmallCard(PlainEngine):
    """An engine on a card that holds so many tokens of a pass; ``late`` ones run out on the way back."""

    def __init__(self, model: Any, holds: int, late: bool = False) -> None:
        super().__init__(model, SETTINGS, torch.device("cpu"))
        self.holds, self.late, self.asked = holds, late, list[int]()

    def logps(self, packed: PackedTrees, as_sequences: bool = False) -> Tensor:
        tokens = packed.tokens.shape[1]
        self.asked.append(tokens)
        if tokens <= self.holds:
            return super().logps(packed)
        if not self.late:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
        return _FailsBackwards.apply(super().logps(packed))


class _FailsBackwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


def examples(method: Trained) -> list[Example]:
    shapes = [(20, (9, 12, 5)), (11, (30, 8, 6)), (25, (4, 17, 9)), (8, (8, 8, 8))]
    pairs = ((0, 1), (2, 1))[: len(method.criteria)]
    whole = [
        Example(f"q{n}", tree(prompt, responses, n), ("a", "b", "c"), pairs, reference=(-20.0 - n, -25.0, -15.0 + n))
        for n, (prompt, responses) in enumerate(shapes)
    ]
    return [method.training_view(one) for one in whole]


def gradients_of(method: Trained, holds: int, late: bool = False) -> tuple[Tensor, dict[str, float], SmallCard]:
    engine = SmallCard(with_adapter(tiny(FAMILIES["Llama"])), holds, late)
    made = examples(method)
    plan = plan_batches([one.tree.tokens for one in made], 0, 1, 4, 4)
    means = step_gradients(engine, method, SETTINGS, made, plan[0])
    return engine.gradients(), means, engine


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_pass_that_runs_out_of_memory_is_split_with_the_same_gradients(
    name: str, late: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, means, _ = gradients_of(METHODS[name], 10**6)
    assert capfd.readouterr().err == ""
    split, same, engine = gradients_of(METHODS[name], 45, late)
    said = capfd.readouterr().err
    assert float((split - whole).norm() / whole.norm()) < 1e-5
    assert same == pytest.approx(means, rel=1e-4, abs=1e-5)
    assert min(engine.asked) < 45, "one question alone is larger than the card: its responses were taken one by one"
    assert "does not fit (CUDA out of memory. Tried to allocate 2 GiB.)" in said
    assert "pass_tokens" in said


def test_a_size_that_did_not_fit_is_not_tried_again() -> None:
    *_, engine = gradients_of(METHODS["DPO"], 45)
    too_many = engine.too_many_tokens
    engine.asked.clear()
    made = examples(METHODS["DPO"])
    pass_gradients(engine, METHODS["DPO"], SETTINGS, made, 1.0, last=True)
    assert max(engine.asked) < too_many <= sum(one.tree.tokens for one in made)


def test_a_response_that_is_too_long_for_the_card_is_named() -> None:
    with pytest.raises(DoesNotFit, match=r"question q\d: one response of \d+ tokens with its prompt does not fit"):
        gradients_of(METHODS["DPO"], 5)


def test_processes_that_must_keep_step_are_told_what_to_set() -> None:
    engine = SmallCard(with_adapter(tiny(FAMILIES["Llama"])), 45)
    engine.may_split = False
    with pytest.raises(DoesNotFit, match=r"under DeepSpeed the processes must keep step.*pass_tokens"):
        pass_gradients(engine, METHODS["DPO"], SETTINGS, examples(METHODS["DPO"]), 1.0, last=True)


@pytest.mark.parametrize("processes", [1, 3])
def test_no_pass_has_more_tokens_than_asked_for_and_every_process_as_many_passes(processes: int) -> None:
    lengths = [int(one) for one in torch.randint(5, 90, (70,), generator=torch.Generator().manual_seed(3))]
    free = plan_batches(lengths, 1, 2, 16, 4, processes)
    tight = plan_batches(lengths, 1, 2, 16, 4, processes, pass_tokens=120)
    for one, other in zip(free, tight, strict=True):
        assert sorted(_places(one.parts)) == sorted(_places(other.parts)), "the same questions share a step"
        assert len({len(rank) for rank in other.parts}) == 1
        for rank in other.parts:
            for part in rank:
                assert len(part) <= 4
                assert len(part) <= 1 or sum(lengths[place] for place in part) <= 120


def _places(parts: tuple[tuple[tuple[int, ...], ...], ...]) -> list[int]:
    return [place for rank in parts for part in rank for place in part]


def test_the_tree_of_a_truncated_response_ends_without_an_eos(tmp_path: Path, model_folder: Path) -> None:
    from transformers import AutoTokenizer

    from modpo_hpc.prompts import response_tokens

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    ended, cut = (response_tokens(tokenizer, "so calm", ended) for ended in (True, False))
    assert ended == [*cut, tokenizer.eos_token_id]
    assert Tree((0, 5), (tuple(cut),)).tokens == 2 + len(cut) - 1
