"""Parts of the training benchmarks: prompts, responses, models, and TRL's trainer on the same tokens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modpo_hpc.alignment.adapter import adapter_weights, attach_adapter, load_adapter_weights
from modpo_hpc.alignment.batches import OptimizerStep
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.training import step_gradients
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.data.questions import usable_posts
from modpo_hpc.methods import Trained
from modpo_hpc.prompts import answering_prompt, response_tokens
from modpo_hpc.sandbox.compose import every_sentence
from modpo_hpc.sandbox.vocabulary import byte_pairs
from modpo_hpc.study.alignment import Training
from modpo_hpc.study.data import Data

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data" / "epitome" / "explorations-reddit.csv"
EPITOME = Path(os.environ.get("EPITOME") or BESIDE)
RESPONSES, MEAN_TOKENS = 5, 100
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[INST] {{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} [/INST]{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """The dimensions of a Mistral."""

    width: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int


TINY = Shape(256, 768, 4, 8, 2, 4000)
MISTRAL_7B = Shape(4096, 14336, 32, 32, 8, 32768)


def make_model(shape: Shape, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """A Mistral of ``shape`` with random weights."""
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(  # type: ignore[call-arg]
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        max_position_embeddings=4096,
        sliding_window=None,
        pad_token_id=1,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return MistralForCausalLM(config)
    finally:
        torch.set_default_dtype(before)


def criteria(count: int) -> dict[str, float]:
    """Equal weights of ``count`` criteria."""
    return {f"criterion {number}": 1 / count for number in range(count)}


def real_posts(count: int) -> list[str]:
    """Texts of the first ``count`` EPITOME posts, cleaned as in a study. They are never printed."""
    if not EPITOME.is_file():
        raise SystemExit(f"put explorations-reddit.csv at {BESIDE}, or name it: EPITOME=FILE")
    return usable_posts(Data(epitome=EPITOME), seed=0)[0]["text"].head(count).tolist()


def make_tokenizer(texts: Sequence[str], size: int) -> Any:
    """A byte-level BPE learned from ``texts``, with Mistral's form of a prompt."""
    from transformers import PreTrainedTokenizerFast

    core = byte_pairs(texts, size, ("<s>", "</s>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>", chat_template=TEMPLATE
    )


def make_examples(count: int, criteria: int, seed: int = 0, tokens: int = MEAN_TOKENS) -> list[Example]:
    """Real posts with invented responses of ``tokens`` on average, and a pair of each criterion among five of them."""
    posts = real_posts(count)
    sentences = list(every_sentence())
    tokenizer = make_tokenizer([*posts, *sentences], TINY.vocabulary)
    rng = np.random.default_rng(seed)
    examples = []
    for number, post in enumerate(posts):
        responses = tuple(_response(tokenizer, sentences, rng, tokens) for _ in range(RESPONSES))
        pairs = tuple(_pair(rng) for _ in range(criteria))
        tree = Tree(tuple(answering_prompt(tokenizer, post)), responses)
        ids = tuple(f"q{number}.r{place}" for place in range(RESPONSES))
        rewards = tuple(map(tuple, np.random.default_rng(number).normal(size=(RESPONSES, criteria - 1)).tolist()))
        examples.append(Example(f"q{number}", tree, ids, pairs, rewards=rewards).with_criteria(criteria))
    return examples


def _response(tokenizer: Any, sentences: Sequence[str], rng: np.random.Generator, mean: int) -> tuple[int, ...]:
    wanted = max(12, int(rng.normal(mean, 0.35 * mean)))
    text = ""
    while len(tokens := response_tokens(tokenizer, text.strip())) < wanted:
        text += " " + sentences[int(rng.integers(len(sentences)))]
    return (*tokens[: wanted - 1], tokens[-1])


def _pair(rng: np.random.Generator) -> tuple[int, int]:
    chosen, rejected = rng.permutation(RESPONSES)[:2]
    return int(chosen), int(rejected)


def with_reference(engine: PlainEngine, examples: Sequence[Example]) -> list[Example]:
    """``examples`` with the log-probs of the base model (the adapter of ``engine`` is off)."""
    engine.train(False)
    with torch.no_grad(), engine.adapted.disable_adapter():
        return [
            replace(one, reference=tuple(engine.logps(pack([one.tree], engine.device)).tolist())) for one in examples
        ]


def adapted_model(shape: Shape, settings: Training, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """A model with a fresh adapter; always the same weights."""
    return attach_adapter(make_model(shape, dtype, device), settings, "random", seed=0)


def steps_in_order(count: int, batch: int, micro_batch: int) -> list[OptimizerStep]:
    """Whole batches, in the order of the examples."""
    return [
        OptimizerStep(
            0, (tuple(tuple(range(at, at + micro_batch)) for at in range(start, start + batch, micro_batch)),)
        )
        for start in range(0, count - batch + 1, batch)
    ]


def train_step(
    engine: PlainEngine,
    policy: Trained,
    settings: Training,
    examples: Sequence[Example],
    step: OptimizerStep,
    rate: float,
) -> dict[str, float]:
    """One optimizer step; returns its loss and metrics."""
    means = step_gradients(engine, policy, settings, examples, step)
    engine.step(rate)
    return means


def trl_trainer(
    shape: Shape,
    settings: Training,
    examples: Sequence[Example],
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    **changes: Any,
) -> Any:
    """TRL's DPO trainer with its own defaults, from the same weights, on the same tokens in the same order: a row for
    each criterion's pair of an example. It keeps the loss of every step, unrounded, in ``step_losses``.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from trl import DPOConfig, DPOTrainer

    rows = [
        {
            "prompt_ids": list(one.tree.prompt),
            "chosen_ids": list(one.tree.responses[pair[0]]),
            "rejected_ids": list(one.tree.responses[pair[1]]),
        }
        for one in examples
        for pair in one.pairs
        if pair is not None
    ]

    class SameTokens(DPOTrainer):  # type: ignore[misc]
        step_losses: list[float]

        def compute_loss(self, *arguments: Any, **options: Any) -> Any:
            loss = super().compute_loss(*arguments, **options)
            self.step_losses.append(float((loss[0] if isinstance(loss, tuple) else loss).detach()))
            return loss

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    on_gpu = device != "cpu"
    config = DPOConfig(
        output_dir=str(folder),
        beta=settings.beta,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        num_train_epochs=1,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        **changes,
    )
    tokenizer = make_tokenizer(["a"], 300)
    lora = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules=list(settings.lora_targets),
        task_type="CAUSAL_LM",
    )
    trainer = SameTokens(
        model=make_model(shape, dtype, device),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
    )
    trainer.step_losses = []
    load_adapter_weights(trainer.model, adapter_weights(adapted_model(shape, settings, dtype, device)), "the benchmark")
    return trainer
