"""The small encoder that reward models of the sandbox start from: a RoBERTa of the real shape, tiny and untrained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from modpo_hpc.sandbox.vocabulary import byte_pairs, reading_matter

WIDTH, LAYERS, HEADS, POSITIONS = 64, 2, 4, 512
VOCABULARY = 1500


def make_encoder(folder: Path, posts: Iterable[str], seed: int) -> None:
    """Write a ``RobertaModel`` (about 0.2 M parameters) and its byte-level BPE tokenizer to ``folder``."""
    import torch
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    tokenizer = byte_pairs(reading_matter(posts), VOCABULARY, ("<s>", "<pad>", "</s>", "<unk>", "<mask>"))
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
