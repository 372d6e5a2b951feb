"""Tiny random models of the families that a study may name: windows, soft caps, sinks, tied embeddings, hybrids."""

from __future__ import annotations

from typing import Any

SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
WINDOW = 16
ALTERNATING = ["sliding_attention", "full_attention"] * 2
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "Mistral with a window": ("MistralForCausalLM", {"sliding_window": WINDOW}),
    "Qwen 3": ("Qwen3ForCausalLM", {"head_dim": 8}),
    "Qwen 2 with a window": (
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": WINDOW, "layer_types": ALTERNATING},
    ),
    "Phi 3 with a window": ("Phi3ForCausalLM", {"sliding_window": WINDOW}),
    "Gemma 2": (
        "Gemma2ForCausalLM",
        {
            "head_dim": 8,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
            "layer_types": ALTERNATING,
        },
    ),
    "Gemma 3": (
        "Gemma3ForCausalLM",
        {"head_dim": 8, "sliding_window": WINDOW, "query_pre_attn_scalar": 8, "layer_types": ALTERNATING},
    ),
    "OLMo 3": ("Olmo3ForCausalLM", {"sliding_window": WINDOW, "layer_types": ALTERNATING}),
    "Granite": ("GraniteForCausalLM", {"logits_scaling": 4.0, "residual_multiplier": 0.5}),
    "Cohere": ("CohereForCausalLM", {"logit_scale": 0.25}),
    "gpt-oss": (
        "GptOssForCausalLM",
        {
            "head_dim": 8,
            "sliding_window": WINDOW,
            "layer_types": ALTERNATING,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
        },
    ),
}
HYBRIDS: dict[str, tuple[str, dict[str, Any]]] = {
    "LFM 2": ("Lfm2ForCausalLM", {"layer_types": ["conv", "full_attention"] * 2}),
    "Qwen 3 Next": (
        "Qwen3NextForCausalLM",
        {"layer_types": ["linear_attention", "full_attention"] * 2, "head_dim": 8, "num_experts": 2},
    ),
}


def tiny(kind: tuple[str, dict[str, Any]], attention: str = "eager", **more: Any) -> Any:
    """A model of ``kind``, its weights spread wide so that attention is not flat."""
    import torch
    import transformers

    name, own = kind
    model_class = getattr(transformers, name)
    config = model_class.config_class(**{**SIZES, **own, **more})
    config._attn_implementation = attention
    torch.manual_seed(0)
    model = model_class(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim >= 2 or "sinks" in parameter_name:
                parameter.normal_(0.0, 0.3)
    return model.eval()
