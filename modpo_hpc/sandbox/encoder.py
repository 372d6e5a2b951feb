"""The small encoder that reward models of the sandbox start from: a RoBERTa of the real shape, tiny and untrained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from modpo_hpc.prompts import INSTRUCTION
from modpo_hpc.sandbox.compose import every_sentence

WIDTH, LAYERS, HEADS, POSITIONS = 64, 2, 4, 512
VOCABULARY = 1500


def make_encoder(folder: Path, posts: Iterable[str], seed: int) -> None:
    """Write a ``RobertaModel`` (about 0.2 M parameters) and its byte-level BPE tokenizer to ``folder``."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(reading_matter(posts), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=POSITIONS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = RobertaModel(
            RobertaConfig(
                vocab_size=len(fast),
                hidden_size=WIDTH,
                num_hidden_layers=LAYERS,
                num_attention_heads=HEADS,
                intermediate_size=2 * WIDTH,
                max_position_embeddings=POSITIONS + 2,
                type_vocab_size=1,
                bos_token_id=fast.bos_token_id,
                eos_token_id=fast.eos_token_id,
                pad_token_id=fast.pad_token_id,
            ),
            add_pooling_layer=False,
        )
    encoder.save_pretrained(folder)
    fast.save_pretrained(folder)


def reading_matter(posts: Iterable[str]) -> Iterator[str]:
    """The texts from which the sandbox's tokenizers learn their words: posts, replies, the instruction."""
    for _ in range(20):
        yield INSTRUCTION
        yield from every_sentence()
    yield from posts
