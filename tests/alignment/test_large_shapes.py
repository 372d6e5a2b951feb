"""A training step in the shapes of 7B and 8B models through the project's own code, on tensors that hold no numbers.

It shows shapes, dtypes and the memory that a token keeps for its gradient; nothing of speed, and nothing of a GPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode

from modpo_hpc.alignment.adapter import attach_adapter
from modpo_hpc.alignment.dropped import DroppedLinear
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.study.alignment import Training

LAYERS = 2
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Mistral-7B": (
        "MistralForCausalLM",
        {"hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 32768, "num_hidden_layers": 32},
    ),
    "Llama-3-8B": (
        "LlamaForCausalLM",
        {"hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128256, "num_hidden_layers": 32},
    ),
    "Qwen3-8B": (
        "Qwen3ForCausalLM",
        {
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "vocab_size": 151936,
            "num_hidden_layers": 36,
            "head_dim": 128,
        },
    ),
}
SETTINGS = {dropout: Training(lora_rank=64, lora_alpha=128, lora_dropout=dropout) for dropout in (0.0, 0.05)}
TREE = Tree(tuple(range(138)), (tuple(range(300)), tuple(range(250))))


def engine_of(shape: str, mode: FakeTensorMode, dropout: float) -> PlainEngine:
    """The model with two of its layers, all of them being alike; of its weights only shape and dtype are there."""
    name, sizes = SHAPES[shape]
    model_class = getattr(transformers, name)
    config = model_class.config_class(
        **{**sizes, "num_hidden_layers": LAYERS}, num_attention_heads=32, num_key_value_heads=8
    )
    config._attn_implementation = "sdpa"
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            base = model_class(config)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        model = attach_adapter(base, SETTINGS[dropout], shape, 0)
    with mode:
        for module in model.modules():
            for name, one in module._parameters.items():
                if one is not None:
                    empty = torch.empty(one.shape, dtype=one.dtype)
                    module._parameters[name] = torch.nn.Parameter(empty, requires_grad=one.requires_grad)
            for name, one in module._buffers.items():
                if one is not None:
                    module._buffers[name] = torch.empty(one.shape, dtype=one.dtype)
        return PlainEngine(model, SETTINGS[dropout], torch.device("cpu"))


def kept_by_a_layer(engine: PlainEngine) -> float:
    """Bytes that a layer keeps for the gradient of one token, weights left out; and the step is taken."""
    weights = {one.untyped_storage()._cdata for one in engine.scorer.parameters()}
    inside: dict[int, int] = {}
    head: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            (inside if tensor.shape[-1] < 20_000 else head)[storage._cdata] = storage.nbytes()
            alive.append(storage)
        return tensor

    alive: list[Any] = []
    packed = pack([TREE])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
        logps = engine.logps(packed)
    assert logps.shape == (2,)
    assert logps.dtype == torch.float32
    engine.backward(logps.sum(), last=True)
    for parameter in (one for one in engine.scorer.parameters() if one.requires_grad):
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.shape == parameter.shape
        assert parameter.grad.dtype == torch.float32
    assert head, "the logits of response positions are kept, in bfloat16"
    return sum(inside.values()) / LAYERS / TREE.tokens


def as_before(engine: PlainEngine) -> PlainEngine:
    """With the inputs of every adapter cast to fp32, and what was dropped from them kept."""
    engine.scorer._half = False
    for module in engine.scorer.modules():
        if hasattr(module, "lora_A"):
            module.cast_input_dtype_enabled = True  # type: ignore[assignment]
            down: Any = module.lora_A
            drop: Any = module.lora_dropout
            if isinstance(down["default"], DroppedLinear):
                whole = torch.nn.Linear(1, 1, bias=False)
                whole.weight, drop["default"] = down["default"].weight, torch.nn.Dropout(down["default"].dropout)
                down["default"] = whole
    return engine


@pytest.mark.parametrize(("shape", "dropout"), [("Mistral-7B", 0.0), *((shape, 0.05) for shape in SHAPES)])
def test_a_step_keeps_its_shapes_and_less_memory_a_token(shape: str, dropout: float) -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    engines = engine_of(shape, mode, dropout), as_before(engine_of(shape, mode, dropout))
    with mode:
        for engine in engines:
            engine.train(True)
        now, before = map(kept_by_a_layer, engines)
    layers = SHAPES[shape][1]["num_hidden_layers"]
    per_token, fp32 = (one * layers / 2**20 for one in (now, before))
    print(f"{shape}, dropout {dropout}: {per_token:.1f} MiB a token, {fp32:.1f} with copies in fp32 for every adapter")
    assert now < (0.55 if dropout else 0.75) * before
