"""Load the base model with a fresh adapter, in the engine that the settings ask for."""

from __future__ import annotations

from typing import Any

import torch

from modpo_hpc.alignment.deepspeed_config import deepspeed_layout, read_deepspeed_config
from modpo_hpc.alignment.engine import PlainEngine, TrainingEngine
from modpo_hpc.alignment.processes import ProcessRank
from modpo_hpc.alignment.resident import resident_base
from modpo_hpc.methods import Trained
from modpo_hpc.models import base_model_path
from modpo_hpc.quantization import base_weights
from modpo_hpc.run import Run
from modpo_hpc.study.alignment import Training
from modpo_hpc.study.data import Models
from modpo_hpc.training.checkpoint import Layout


def layout_of(settings: Training, models: Models, process: ProcessRank) -> Layout:
    """The layout of the checkpoints that a run with ``settings`` writes.

    Raises:
        InputError: the DeepSpeed configuration cannot be used.
    """
    if settings.deepspeed is None:
        return Layout("plain", process.world_size)
    return deepspeed_layout(read_deepspeed_config(settings, models), process.world_size)


def make_engine(
    run: Run, policy: Trained, settings: Training, seed: int, process: ProcessRank, device: torch.device
) -> TrainingEngine:
    """Base model, the fresh adapter of ``policy`` and optimizer on ``device``."""
    models, folder = run.study.models, base_model_path(run)

    def build() -> Any:
        return policy.attach(run, load_base(folder, models, settings, device), settings, seed)

    if settings.deepspeed is None:
        return PlainEngine(build().to(device), settings, device, process)
    from modpo_hpc.alignment.sharded import DeepSpeedEngine

    config = read_deepspeed_config(settings, models)
    return DeepSpeedEngine(build, config, settings, models.dtype, process, device)


def load_base(folder: str, models: Models, settings: Training, device: torch.device) -> Any:
    """The base model in ``folder`` with the study's precision; its own weights are frozen by the adapter.

    Quantized weights are on ``device`` already, others may still have to be moved there.
    """
    model = resident_base((folder, repr(models), device), lambda: _load(folder, models, device), device)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model


def _load(folder: str, models: Models, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    precision = base_weights(models, device)
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation=models.attention, **precision)
