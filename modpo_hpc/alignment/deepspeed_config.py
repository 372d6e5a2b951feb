"""DeepSpeed configurations: read, checked before anything is loaded, and completed from the study."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modpo_hpc.errors import InputError
from modpo_hpc.resources import resource
from modpo_hpc.study.alignment import Training
from modpo_hpc.study.data import Models
from modpo_hpc.training.checkpoint import Layout

if TYPE_CHECKING:
    import torch

COMPILE_SWITCH = "MODPO_COMPILE"
_FROM_STUDY = {
    "train_batch_size": "batch_size",
    "train_micro_batch_size_per_gpu": "micro_batch_size",
    "gradient_accumulation_steps": "batch_size and micro_batch_size",
    "gradient_clipping": "max_grad_norm",
    "optimizer": "learning_rate and weight_decay",
    "scheduler": "schedule and warmup",
    "bf16": "models.dtype",
}


def read_deepspeed_config(settings: Training, models: Models) -> dict[str, Any]:
    """The configuration that ``settings.deepspeed`` names: a path, or a file of the project.

    Raises:
        InputError: no such file, not JSON, a field that the study sets, or a combination that does not work.
    """
    name = settings.deepspeed or ""
    path = Path(name) if Path(name).is_file() else resource(name)
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"this is no JSON: {error}", file=path, remedy="Start from configs/deepspeed/zero2.json."
        ) from error
    for field, where in _FROM_STUDY.items():
        if field in config:
            raise InputError(
                "the study sets this", file=path, field=field, remedy=f"Remove it; it follows from {where}."
            )
    if config.get("fp16", {}).get("enabled"):
        raise InputError(
            "fp16 overflows in preference losses and needs loss scaling that cannot be resumed exactly",
            file=path,
            field="fp16",
            remedy="Use models.dtype: bfloat16.",
        )
    if zero_stage(config) == 3 and models.quantization:
        raise InputError(
            "ZeRO stage 3 spreads weights over the processes as they are loaded, and weights in four bits are packed "
            "with scales of their own that it does not know",
            file=path,
            field="zero_optimization.stage",
            value=3,
            remedy="Use stage 1 or 2, which leave the base weights whole, or leave models.quantization empty.",
        )
    if zero_stage(config) == 0 and models.dtype == "bfloat16":
        raise InputError(
            "bf16 at ZeRO stage 0 has no fp32 copy of the adapter and drifts",
            file=path,
            field="zero_optimization.stage",
            value=0,
            remedy="Use stage 1, 2 or 3, or plain PyTorch on one GPU (no deepspeed).",
        )
    return config


def zero_stage(config: dict[str, Any]) -> int:
    """The ZeRO stage of ``config``."""
    return int(config.get("zero_optimization", {}).get("stage", 0))


def deepspeed_layout(config: dict[str, Any], processes: int) -> Layout:
    """The layout of the checkpoints of ``config``."""
    zero = config.get("zero_optimization", {})
    offload = any(zero.get(part, {}).get("device", "none") != "none" for part in ("offload_optimizer", "offload_param"))
    return Layout("deepspeed", processes, zero_stage(config), offload)


def completed(config: dict[str, Any], settings: Training, dtype: str, processes: int, on_gpu: bool) -> dict[str, Any]:
    """``config`` with what the study says.

    The number of passes a step is given as an upper bound; the engine is told at each pass whether it is the last.
    """
    zero = dict(config.get("zero_optimization", {}))
    for part in ("offload_optimizer", "offload_param"):
        if part in zero and not on_gpu:
            zero[part] = {**zero[part], "pin_memory": False}
    passes = max(1, -(-settings.batch_size // (settings.micro_batch_size * processes)))
    return {
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        **config,
        "zero_optimization": zero,
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        "gradient_accumulation_steps": passes,
        "gradient_clipping": settings.max_grad_norm,
        "bf16": {"enabled": dtype == "bfloat16"},
    }


def may_compile() -> bool:
    """Whether DeepSpeed may build its operators: the switch ``MODPO_COMPILE``, else whether g++ and ninja are there."""
    switch = os.environ.get(COMPILE_SWITCH, "")
    if switch:
        return switch not in ("0", "no", "false")
    return shutil.which("g++") is not None and shutil.which("ninja") is not None


def prepare_deepspeed(device: torch.device) -> None:
    """Tell DeepSpeed, before the processes meet, where it computes and what it may compile."""
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        os.environ.setdefault("MAX_JOBS", "1")
    import deepspeed

    if not may_compile():
        for operator in ("deepspeed_shm_comm", "deepspeed_ccl_comm"):
            deepspeed.ops.__compatible_ops__[operator] = False
