"""Every family is scored and differentiated along trees as by its own forward pass, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from modpo_hpc.alignment import attention
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.scorer import ResponseScorer
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.alignment.verification import verify_tree_scoring
from modpo_hpc.errors import InputError
from modpo_hpc.study.alignment import Training
from tests.alignment.families import FAMILIES, HYBRIDS, WINDOW, tiny


def tree(prompt: int = 30, responses: tuple[int, ...] = (20, 7, 12), seed: int = 0) -> Tree:
    rng = np.random.default_rng(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(int(one) for one in rng.integers(2, 250, size=count))

    return Tree(ids(prompt), tuple(ids(count) for count in responses))


def with_adapter(model: Any) -> Any:
    torch.manual_seed(1)
    names = {name.rpartition(".")[2] for name, one in model.named_modules() if isinstance(one, torch.nn.Linear)}
    targets = sorted(names & {"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "down_proj"})
    return get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False)).eval()


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_and_gradients_are_those_of_the_models_own_forward_pass(family: str) -> None:
    """Prompt and responses are longer than the window, so a window that is lost would show."""
    scored, plain = with_adapter(tiny(FAMILIES[family])), with_adapter(tiny(FAMILIES[family]))
    packed, slope = pack([tree(), tree(9, (25, 3), 1)]), torch.tensor([1.0, -0.5, 0.3, 0.7, -1.1])
    found = ResponseScorer(scored)(packed)
    expected = ResponseScorer(plain)(packed, as_sequences=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-3)
    (found @ slope).backward()
    (expected @ slope).backward()
    wanted = gradient(plain)
    assert float((gradient(scored) - wanted).norm() / wanted.norm()) < 1e-4


@pytest.mark.parametrize("family", HYBRIDS)
def test_layers_that_carry_a_state_are_refused_by_name(family: str) -> None:
    with pytest.raises(InputError, match=r"of the kind (conv|linear_attention), whose state runs through") as caught:
        ResponseScorer(tiny(HYBRIDS[family]))
    assert caught.value.field == "models.base"


def engine_of(model: Any) -> PlainEngine:
    return PlainEngine(with_adapter(model), Training(), torch.device("cpu"))


def example(one: Tree, name: str = "q1") -> Example:
    return Example(name, one, tuple("abc"[: len(one.responses)]), ((0, 1),))


@pytest.mark.parametrize("lost", ["sliding_window", "softcap", "s_aux"])
def test_what_trees_do_not_know_of_is_found_before_training(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same attention, but deaf to one of its arguments, as one written before the model would be."""
    family = {"sliding_window": "Mistral with a window", "softcap": "Gemma 2", "s_aux": "gpt-oss"}[lost]
    known = attention.tree_attention

    def deaf(*arguments: Any, **options: Any) -> Any:
        return known(*arguments, **{**options, lost: None})

    assert verify_tree_scoring(engine_of(tiny(FAMILIES[family])), [example(tree())], "m") < 1e-3
    monkeypatch.setattr("modpo_hpc.alignment.scorer.tree_attention", deaf)
    with pytest.raises(InputError, match=r"a response of question q1 has a log-prob of .* shared prompts do not fit"):
        verify_tree_scoring(engine_of(tiny(FAMILIES[family])), [example(tree())], "m")


def test_a_window_that_no_text_of_the_study_meets_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    short = [example(tree(6, (4, 3)))]
    assert sum(map(len, (short[0].tree.prompt, short[0].tree.responses[0]))) < WINDOW
    assert verify_tree_scoring(engine_of(tiny(FAMILIES["Mistral with a window"])), short, "m") < 1e-3


def test_around_bfloat16_weights_the_adapter_is_computed_in_bfloat16_and_kept_in_float32() -> None:
    """Every input that a LoRA layer keeps for its gradient has two bytes a number, weights and gradients have four."""
    engine = engine_of(tiny(FAMILIES["Llama"], "sdpa").to(torch.bfloat16))
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    packed = pack([tree()])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
        loss = engine.logps(packed).sum()
    length = packed.tokens.shape[1]
    widths = {one.shape[-1] for one in kept if one.dtype == torch.float32 and one.shape[1:-1] == (length,)}
    lora = [one for name, one in engine.adapted.named_parameters() if "lora_" in name]
    assert {one.dtype for one in lora} == {torch.float32}
    engine.backward(loss, last=True)
    assert {one.grad.dtype for one in lora if one.grad is not None} == {torch.float32}
    assert engine.logps(packed).dtype == torch.float32
    assert not widths & {64}, "the inputs of down_proj's adapter are kept in bfloat16"
    whole = engine_of(tiny(FAMILIES["Llama"], "sdpa"))
    torch.testing.assert_close(engine.logps(packed), whole.logps(packed), rtol=0.05, atol=1.0)
