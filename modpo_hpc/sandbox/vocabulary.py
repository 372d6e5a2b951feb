"""The words of the sandbox's two models: what their tokenizers are trained on, and how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from modpo_hpc.prompts import INSTRUCTION
from modpo_hpc.sandbox.compose import every_sentence


def reading_matter(posts: Iterable[str]) -> Iterator[str]:
    """The texts from which the sandbox's tokenizers learn their words: posts, replies, the instruction."""
    for _ in range(20):
        yield INSTRUCTION
        yield from every_sentence()
    yield from posts


def byte_pairs(texts: Iterable[str], size: int, special: Sequence[str]) -> Any:
    """A byte-level BPE (``tokenizers.Tokenizer``) of at most ``size`` tokens, the ``special`` ones first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
