"""Decoding, held against ``model.generate`` and against itself under other batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from modpo_hpc.errors import ModpoError
from modpo_hpc.generation.decode import Prompt, decode
from modpo_hpc.generation.sampling import draw_tokens
from modpo_hpc.study.generation import Sampling
from tests.positions_fed import positions_fed

SAMPLED = Sampling(temperature=0.8, top_p=1.0, max_tokens=24)
GREEDY = Sampling(temperature=0.0, max_tokens=24)


def prompts_of(lengths: list[int], seed: int = 0) -> list[Prompt]:
    rng = np.random.default_rng(seed)
    return [
        Prompt(tuple(int(one) for one in rng.integers(2, 250, length)), number) for number, length in enumerate(lengths)
    ]


def test_greedy_equals_generate(tiny):
    model, _ = tiny
    prompts = prompts_of([3, 40, 17, 5, 5, 90, 1, 33])
    made = decode(model, prompts, GREEDY, [1], rows_at_once=3)
    for prompt, ours in zip(prompts, made, strict=True):
        theirs = model.generate(
            torch.tensor([prompt.tokens]), do_sample=False, max_new_tokens=24, eos_token_id=1, pad_token_id=1
        )[0, len(prompt.tokens) :].tolist()
        assert ours.tokens == [one for one in theirs if one != 1]
        assert ours.finish_reason == ("stop" if 1 in theirs else "length")


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=14),
    rows=st.integers(1, 16),
    temperature=st.sampled_from([0.0, 0.8, 1.3]),
    top_p=st.sampled_from([1.0, 0.9]),
)
def test_a_text_does_not_hang_on_its_neighbours(tiny, lengths, rows, temperature, top_p):
    model, _ = tiny
    sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=16)
    prompts = prompts_of(lengths)
    together = decode(model, prompts, sampling, [1, 7], rows)
    alone = [decode(model, [prompt], sampling, [1, 7], 1)[0] for prompt in prompts]
    assert together == alone


def test_equal_prompts_are_read_once_and_continued_apart(tiny):
    model, _ = tiny
    tokens = prompts_of([50])[0].tokens
    prompts = [Prompt(tokens, seed) for seed in range(5)]
    with positions_fed(model) as positions:
        made = decode(model, prompts, SAMPLED, [1], rows_at_once=8)
    assert len({tuple(one.tokens) for one in made}) > 1
    assert sum(positions) <= 50 + 5 * SAMPLED.max_tokens


def test_sampled_tokens_follow_the_model(tiny):
    """The first token over many seeds against the softmax of the model's own logits (chi-square)."""
    from scipy.stats import chisquare

    model, _ = tiny
    tokens = prompts_of([12])[0].tokens
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), past_key_values=DynamicCache()).logits[0, -1]
    expected = torch.softmax(logits.double() / 0.8, -1).numpy()
    count = 6000
    made = decode(
        model,
        [Prompt(tokens, seed) for seed in range(count)],
        Sampling(temperature=0.8, max_tokens=1),
        [10_000],
        count,
    )
    seen = np.bincount([one.tokens[0] for one in made], minlength=len(expected))
    common = expected * count >= 5
    observed = np.append(seen[common], seen[~common].sum())
    hoped = np.append(expected[common], expected[~common].sum()) * count
    assert chisquare(observed, hoped).pvalue > 1e-4


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(1000, 1)
    draws = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1]
    shares = torch.bincount(draw_tokens(logits, draws, 1.0, top_p=0.7), minlength=4) / 1000
    assert shares.tolist() == pytest.approx([0.625, 0.375, 0, 0], abs=2e-3)


def test_broken_logits_are_refused():
    with pytest.raises(ModpoError, match="NaN"):
        draw_tokens(torch.tensor([[0.0, float("nan")]]), torch.tensor([0.5]).double(), 0.8)


def test_a_limit_is_told_from_an_end(tiny):
    model, _ = tiny
    prompts = prompts_of([8] * 40)
    made = decode(model, prompts, Sampling(temperature=1.3, max_tokens=6), range(2, 40), 16)
    assert {one.finish_reason for one in made} == {"stop", "length"}
    for one in made:
        assert not set(one.tokens) & set(range(2, 40))
        assert (len(one.tokens) == 6) == (one.finish_reason == "length")
