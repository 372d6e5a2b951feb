"""Tokens per second of the transformers engine against two loops that people write with ``model.generate``.

The peers: one question at a time, and batches of a fixed size in the order in which the questions come. All three
sample five texts for each question from one model with random weights, in one process, in turns; a set of end tokens
is chosen so that texts end at random, as real ones do. With ``--shape mistral-7b`` (one GPU of 80 GB) the model has
Mistral-7B's shape in bfloat16, and only fixed batches are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from transformers import MistralConfig, MistralForCausalLM

from modpo_hpc.generation.decode import Prompt, decode
from modpo_hpc.study.generation import Sampling
from tests.bench.measuring import CORES, tell
from tests.positions_fed import positions_fed

SHAPES = {
    "tiny": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6},
    "mistral-7b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
}
KEY_VALUE_HEADS = {"tiny": 2, "mistral-7b": 8}
VOCABULARY = {"tiny": 2000, "mistral-7b": 32000}
PER_QUESTION = 5


def make_model(shape: str) -> MistralForCausalLM:
    torch.manual_seed(0)
    config = MistralConfig(
        **SHAPES[shape],
        num_key_value_heads=KEY_VALUE_HEADS[shape],
        vocab_size=VOCABULARY[shape],
        sliding_window=None,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    with torch.device("cuda" if shape != "tiny" else "cpu"):
        model = MistralForCausalLM(config)
    return model.to(torch.bfloat16 if shape != "tiny" else torch.float32).eval()


def make_prompts(count: int, vocabulary: int, ends: int) -> list[tuple[int, ...]]:
    """Prompt lengths as in this data: an instruction, and posts whose length is roughly log-normal."""
    rng = np.random.default_rng(0)
    lengths = 45 + np.clip(rng.lognormal(3.3, 0.75, count), 4, 400).astype(int)
    return [tuple(int(one) for one in rng.integers(ends, vocabulary, length)) for length in lengths]


def ours(model, prompts, sampling, ends, rows):
    requests = [
        Prompt(one, PER_QUESTION * number + part) for number, one in enumerate(prompts) for part in range(PER_QUESTION)
    ]
    with positions_fed(model) as positions:
        made = decode(model, requests, sampling, ends, rows)
    live = sum(len(one) for one in prompts) + sum(len(one.tokens) - (one.finish_reason == "length") for one in made)
    return sum(len(one.tokens) + (one.finish_reason == "stop") for one in made), 1 - live / sum(positions)


def generate_batches(model, prompts, sampling, ends, rows):
    texts = [one for one in prompts for _ in range(PER_QUESTION)]
    made = positions = live = 0
    for start in range(0, len(texts), rows):
        batch = texts[start : start + rows]
        columns = max(len(one) for one in batch)
        ids = torch.full((len(batch), columns), 1)
        mask = torch.zeros_like(ids)
        for row, one in enumerate(batch):
            ids[row, columns - len(one) :], mask[row, columns - len(one) :] = torch.tensor(one), 1
        output = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=True,
            temperature=sampling.temperature,
            top_k=0,
            max_new_tokens=sampling.max_tokens,
            eos_token_id=list(ends),
            pad_token_id=1,
        )[:, columns:]
        ended = torch.isin(output, torch.tensor(list(ends), device=output.device)).int().cumsum(1)
        tokens = int((ended == 0).sum() + (ended[:, -1] > 0).sum())
        made += tokens
        positions += ids.numel() + output.numel()
        live += int(mask.sum()) + tokens
    return made, 1 - live / positions


def one_at_a_time(model, prompts, sampling, ends, rows):
    return generate_batches(model, prompts, sampling, ends, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--rows", type=int, default=32, help="texts at once, for both that batch")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--mean-tokens", type=int, default=90, help="mean length of a text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    vocabulary = VOCABULARY[options.shape]
    ends = range(1, 1 + max(1, round(vocabulary / options.mean_tokens)))
    model = make_model(options.shape)
    prompts = make_prompts(options.questions, vocabulary, len(ends) + 1)
    sampling = Sampling(temperature=0.8, max_tokens=options.max_tokens)
    loops = {"ours": ours, "fixed_batches": generate_batches}
    if options.shape == "tiny":
        loops["one_at_a_time"] = one_at_a_time
    for loop in loops.values():
        loop(model, prompts[:2], sampling, ends, options.rows)
    rates: dict[str, list[float]] = {name: [] for name in loops}
    padding: dict[str, float] = {}
    for round_number in range(options.rounds):
        for name, loop in loops.items():
            start = time.perf_counter()
            tokens, padding[name] = loop(model, prompts, sampling, ends, options.rows)
            rates[name].append(tokens / (time.perf_counter() - start))
            print(
                f"round {round_number + 1} {name}: {rates[name][-1]:.0f} tokens/s, padding {padding[name]:.1%}",
                flush=True,
            )
    median = {name: statistics.median(found) for name, found in rates.items()}
    peers = [name for name in loops if name != "ours"]
    tell(
        "generate" if options.shape == "tiny" else "generate-gpu",
        ratios={f"tokens per second, ours / {name}": round(median["ours"] / median[name], 2) for name in peers},
        tokens_per_second={name: round(one) for name, one in median.items()},
        padding_share={name: round(one, 3) for name, one in padding.items()},
        texts=len(prompts) * PER_QUESTION,
        rows_at_once=options.rows,
        threads=options.threads,
        machine=CORES if options.shape == "tiny" else torch.cuda.get_device_name(),
    )


if __name__ == "__main__":
    main()
