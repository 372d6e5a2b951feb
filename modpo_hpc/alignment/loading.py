"""Load the base model with a fresh adapter, in the engine that the settings ask for."""

from __future__ import annotations

from typing import Any

import torch

from modpo_hpc.alignment.adapter import attach_adapter
from modpo_hpc.alignment.checkpoint import Layout
from modpo_hpc.alignment.engine import Engine, PlainEngine
from modpo_hpc.models import base_model_path
from modpo_hpc.run import Run
from modpo_hpc.study.alignment import Training
from modpo_hpc.study.data import Models


def precision_of(models: Models) -> str:
    """The precision of the base weights, as far as it changes what the model says."""
    return models.dtype


def layout_of(settings: Training) -> Layout:
    """The layout of the checkpoints that a run with ``settings`` writes."""
    return PlainEngine.layout


def make_engine(run: Run, settings: Training, seed: int) -> Engine:
    """Base model, adapter and optimizer, on this process's device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_base(base_model_path(run), run.study.models, settings).to(device)
    return PlainEngine(attach_adapter(model, settings, run.study.models.base, seed), settings, device)


def load_base(folder: str, models: Models, settings: Training) -> Any:
    """The base model in ``folder`` with the study's precision; its own weights are frozen by the adapter."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, models.dtype), attn_implementation="sdpa")
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model
