"""A tree gives what its responses give one by one: log-probs and gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modpo_hpc.alignment.scorer import ResponseScorer, TokenLogProbs
from modpo_hpc.alignment.trees import Tree, pack


def adapted(folder: Path, attention: str = "eager"):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
    torch.manual_seed(1)
    return get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))


def one_by_one(model, tree: Tree) -> torch.Tensor:
    """Each response in a sequence of its own, through the model's own forward pass."""
    sums = []
    for response in tree.responses:
        ids = torch.tensor([tree.prompt + response])
        logps = model(input_ids=ids).logits[0].log_softmax(-1)
        start = len(tree.prompt)
        sums.append(logps[start - 1 : -1].gather(1, ids[0, start:, None]).sum())
    return torch.stack(sums)


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    return found


def random_tree(rng: np.random.Generator, prompt: int, responses: list[int]) -> Tree:
    def ids(count: int) -> tuple[int, ...]:
        return tuple(int(one) for one in rng.integers(2, 250, size=count))

    return Tree(ids(prompt), tuple(ids(count) for count in responses))


shapes = st.tuples(st.integers(1, 40), st.lists(st.integers(1, 30), min_size=1, max_size=5))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=st.lists(shapes, min_size=1, max_size=3), seed=st.integers(0, 1000))
def test_log_probs_and_gradients_equal_those_of_separate_sequences(model_folder: Path, shapes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    trees = [random_tree(rng, prompt, responses) for prompt, responses in shapes]
    slope = torch.tensor(rng.normal(size=sum(len(tree.responses) for tree in trees)), dtype=torch.float32)
    plain = adapted(model_folder)
    expected = torch.cat([one_by_one(plain, tree) for tree in trees])
    (expected @ slope).backward()
    wanted = gradients(plain)
    shared = adapted(model_folder)
    found = ResponseScorer(shared)(pack(trees))
    (found @ slope).backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)
    for name, gradient in gradients(shared).items():
        assert float((gradient - wanted[name]).norm()) <= 1e-4 * float(wanted[name].norm()) + 1e-6, name


def test_gradient_checkpointing_changes_no_gradient(model_folder: Path) -> None:
    tree = random_tree(np.random.default_rng(3), 20, [8, 5, 9])
    results = []
    for checkpointing in (False, True):
        model = adapted(model_folder)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        model.train()
        ResponseScorer(model)(pack([tree])).sum().backward()
        results.append(gradients(model))
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient)


def test_packing_computes_no_padding_and_each_prompt_once() -> None:
    packed = pack([Tree((1, 2, 3), ((4, 5), (6, 7, 8))), Tree((9,), ((10,),))])
    assert packed.tokens.tolist() == [[1, 2, 3, 4, 6, 7, 9]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 3, 4, 0]]
    assert packed.targets.tolist() == [4, 5, 6, 7, 8, 10]
    assert packed.predictors.tolist() == [2, 3, 2, 4, 5, 6]
    assert packed.lengths == (2, 3, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_token_log_probs_equal_log_softmax(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    raw = torch.randn(2500, 37)
    targets = torch.randint(37, (2500,))
    slope = torch.randn(2500)
    ours, theirs = (raw.clone().to(dtype).requires_grad_() for _ in range(2))
    found = TokenLogProbs.apply(ours * 1, targets)
    expected = theirs.float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(found, expected)
    (found * slope).sum().backward()
    (expected * slope).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
