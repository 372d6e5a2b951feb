"""A product of experts decodes as its definition says: every token from the whole text, without a cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from modpo_hpc.generation.decode import Prompt, decode
from modpo_hpc.generation.product import Product
from modpo_hpc.generation.sampling import uniforms_of
from modpo_hpc.study.generation import Sampling

END = 2
PROMPTS = [Prompt((1, 5, 9, 11), 7), Prompt((1, 4), 8), Prompt((1, 5, 9, 11), 9), Prompt((3, 3, 8, 8, 8, 6), 10)]


@pytest.fixture(scope="module")
def models() -> tuple[torch.nn.Module, torch.nn.Module]:
    return tiny_llama(1), tiny_llama(2)


def tiny_llama(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 24, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, initializer_range=0.4, **sizes))
    return model.eval()


@torch.no_grad()
def from_the_definition(models, powers, prompt: Prompt, temperature: float, limit: int) -> list[int]:
    """Probabilities of each expert from its own softmax, multiplied, normalised, drawn by the same uniform number."""
    text, uniforms = list(prompt.tokens), uniforms_of(prompt.seed, limit)
    for uniform in uniforms:
        each = [torch.softmax(one(input_ids=torch.tensor([text])).logits[0, -1].double(), -1) for one in models]
        product = np.prod([one.numpy() ** power for one, power in zip(each, powers, strict=True)], axis=0)
        if temperature == 0:
            token = int(product.argmax())
        else:
            sharp = product ** (1 / temperature)
            token = int(np.searchsorted(np.cumsum(sharp) / sharp.sum(), uniform, side="right"))
        if token == END:
            break
        text.append(token)
    return text[len(prompt.tokens) :]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("powers", [(0.5, 0.5), (0.7, 0.2)])
def test_decoding_is_the_product_of_the_experts(models, powers: tuple[float, float], temperature: float) -> None:
    product = Product(tuple(zip(models, powers, strict=True)))
    sampling = Sampling(temperature=temperature, max_tokens=9)
    made = decode(product, PROMPTS, sampling, [END], rows_at_once=2)
    wanted = [from_the_definition(models, powers, one, temperature, 9) for one in PROMPTS]
    assert [one.tokens for one in made] == wanted
    assert any(len(one) > 2 for one in wanted)


def test_experts_that_agree_are_one_model(models) -> None:
    sampling = Sampling(max_tokens=9)
    alone = decode(models[0], PROMPTS, sampling, [END], 4)
    twice = decode(Product(((models[0], 0.5), (models[0], 0.5))), PROMPTS, sampling, [END], 4)
    assert alone == twice
