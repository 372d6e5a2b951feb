"""The engine on DeepSpeed: ZeRO stages 0 to 3, offload, several processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modpo_hpc.alignment.deepspeed_config import completed, deepspeed_layout, zero_stage
from modpo_hpc.alignment.engine import TrainingEngine, adamw, adapter_parameters
from modpo_hpc.alignment.processes import ProcessRank
from modpo_hpc.alignment.scorer import ResponseScorer
from modpo_hpc.study.alignment import Training

_TAG = "deepspeed"


class DeepSpeedEngine(TrainingEngine):
    """One of several processes that hold a model together under DeepSpeed.

    ``build`` makes the PEFT model. It is called when the configuration is in force, because under ZeRO-3 the weights
    are spread over the processes as they are loaded.
    """

    may_split = False

    def __init__(
        self,
        build: Callable[[], Any],
        config: dict[str, Any],
        settings: Training,
        dtype: str,
        process: ProcessRank,
        device: torch.device,
    ) -> None:
        import deepspeed
        from transformers.integrations import HfDeepSpeedConfig

        deepspeed.init_distributed(verbose=False)
        self.layout = deepspeed_layout(config, process.world_size)
        self.rank, self.device = process.rank, device
        complete = completed(config, settings, dtype, process.world_size, device.type == "cuda")
        self._spread = zero_stage(config) == 3
        self._in_force = HfDeepSpeedConfig(complete)
        self.adapted = build()
        self._parameters = adapter_parameters(self.adapted)
        self._engine, *_ = deepspeed.initialize(
            model=ResponseScorer(self.adapted),
            model_parameters=self._parameters,
            optimizer=adamw(self._parameters, settings, device),
            config=complete,
            dist_init_required=False,
        )
        self._module = self._engine
        self._engine.set_gradient_accumulation_boundary(True)

    def backward(self, loss: Tensor, last: bool) -> None:
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        return float(self._engine.get_global_grad_norm() or 0.0)

    def weights(self) -> dict[str, Tensor]:
        import deepspeed

        with deepspeed.zero.GatheredParameters(self._parameters, enabled=self._spread):
            return super().weights()

    def save(self, checkpoint: Path) -> None:
        self._engine.save_checkpoint(str(checkpoint), tag=_TAG, save_latest=False, exclude_frozen_parameters=True)

    def load(self, checkpoint: Path) -> None:
        self._engine.load_checkpoint(str(checkpoint), tag=_TAG, load_module_strict=False)
