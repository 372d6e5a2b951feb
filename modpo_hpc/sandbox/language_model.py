"""The small language model of the sandbox: a real Mistral of about 0.4 M parameters, taught to answer posts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from modpo_hpc.alignment.scorer import ResponseScorer
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.core.atomic import atomic_file
from modpo_hpc.errors import InputError
from modpo_hpc.prompts import answering_prompt, response_tokens
from modpo_hpc.sandbox.compose import compose_reply
from modpo_hpc.sandbox.vocabulary import byte_pairs, reading_matter
from modpo_hpc.seeds import rng_of
from modpo_hpc.training import TrainingContext

WIDTH, LAYERS, HEADS, KEY_HEADS, INNER, POSITIONS = 96, 3, 4, 2, 256, 1024
VOCABULARY = 1500
POSTS, REPLIES = 4, 4  # of a batch: four posts with four replies each cost half of sixteen posts with one
LEARNING_RATE, WARMUP, LONGEST_PROMPT = 4e-3, 30, 320
STEPS_BETWEEN_CHECKPOINTS = 50

# Mistral's own form: the instruction in brackets, the reply after it, an end of sentence after the reply
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ raise_exception('this template knows the roles user and assistant') }}{% endif %}"
    "{% endfor %}"
)


def teach_language_model(
    folder: Path, posts: Sequence[str], instruction: str, steps: int, seed: int, context: TrainingContext
) -> None:
    """Write a Mistral and its tokenizer to ``folder``, taught for ``steps`` batches of invented replies to ``posts``.

    It learns from the prompts that it will be asked with, which begin with ``instruction``. A killed attempt resumes
    from its last checkpoint; the result is the same to the byte.
    """
    tokenizer = make_tokenizer(posts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_language_model(tokenizer)
    scorer = ResponseScorer(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    taught = {"model": model, "optimizer": optimizer, "schedule": schedule}
    checkpoint = context.scratch / "teaching.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for name, one in taught.items():
            one.load_state_dict(state[name])
        first = state["step"]
    lessons = _lessons(tokenizer, posts, instruction)
    model.train()
    for step in range(first, steps):
        batch = pack(_batch(tokenizer, lessons, seed, step))
        loss = -scorer(batch).sum() / len(batch.targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        context.progress(step + 1, steps, "steps", loss=loss.item())
        if (step + 1) % STEPS_BETWEEN_CHECKPOINTS == 0:
            with atomic_file(checkpoint) as stream:
                torch.save({"step": step + 1, **{name: one.state_dict() for name, one in taught.items()}}, stream)
            context.check()
    model.eval()
    model.set_attn_implementation("sdpa")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_tokenizer(posts: Sequence[str]) -> Any:
    """A byte-level BPE tokenizer with BOS, EOS, PAD and Mistral's chat form, trained on sentences and ``posts``."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    special = ("<unk>", "<s>", "</s>", "<pad>", "[INST]", "[/INST]")
    tokenizer = byte_pairs(reading_matter(posts), VOCABULARY, special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        additional_special_tokens=["[INST]", "[/INST]"],
        model_max_length=POSITIONS,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_language_model(tokenizer: Any) -> Any:
    """An untaught ``MistralForCausalLM`` of the sandbox's shape, weights drawn from torch's current state."""
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=POSITIONS,
        sliding_window=None,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return MistralForCausalLM(config)


def _lessons(tokenizer: Any, posts: Sequence[str], instruction: str) -> list[tuple[str, list[int]]]:
    """The posts that are short enough to learn from, each with its prompt."""
    prompts = ((post, answering_prompt(tokenizer, post, instruction)) for post in posts)
    lessons = [(post, prompt) for post, prompt in prompts if len(prompt) <= LONGEST_PROMPT]
    if not lessons:
        raise InputError(
            f"every training post is longer than the {LONGEST_PROMPT} tokens that the sandbox's model learns from",
            field="models.base",
            value="sandbox",
            remedy="Lower data.max_characters, or name a model of the hub.",
        )
    return lessons


def _batch(tokenizer: Any, lessons: Sequence[tuple[str, list[int]]], seed: int, step: int) -> list[Tree]:
    """``POSTS`` prompts with ``REPLIES`` invented replies each."""
    rng = rng_of(seed, "batch", step)
    trees = []
    for index in rng.integers(len(lessons), size=POSTS):
        post, prompt = lessons[index]
        replies = (response_tokens(tokenizer, compose_reply(post, rng)) for _ in range(REPLIES))
        trees.append(Tree(tuple(prompt), tuple(map(tuple, replies))))
    return trees


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to a tenth."""
    return min((step + 1) / WARMUP, 1.0) * (1.0 - 0.9 * step / steps)
