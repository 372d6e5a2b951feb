"""A Mistral of two layers with random weights and a byte tokenizer: fast, and no text of it means anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def save_tiny_mistral(
    folder: Path, seed: int = 0, scale: float = 1.0, words: Sequence[str] = (), width: int = 32
) -> Path:
    """Write the model and its tokenizer, with a chat template, to ``folder``; each of ``words`` is one token."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    merges: list[tuple[str, str]] = []
    for word in words:
        grown = "Ġ"
        for letter in word:
            if (grown, letter) not in merges:
                merges.append((grown, letter))
            grown += letter
            vocabulary.setdefault(grown, len(vocabulary))
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>", chat_template=TEMPLATE
    )
    torch.manual_seed(seed)
    config = MistralConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        sliding_window=None,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = MistralForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(scale * 20)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
