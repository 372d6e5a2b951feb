"""LoRA adapters: put one on a model, take its weights off, and write it so that equal weights give equal bytes."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modpo_hpc.alignment.dropped import drop_without_copies
from modpo_hpc.errors import InputError

if TYPE_CHECKING:
    from modpo_hpc.study.alignment import Training

Adapter = tuple[Mapping[str, Tensor], Mapping[str, Any]]
"""Weights of an adapter by name, and its configuration."""

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class OwnAdapter(nn.Module):
    """A model around a causal LM that holds its adapter itself, not through PEFT."""

    @abstractmethod
    def get_base_model(self) -> nn.Module:
        """The causal LM, updates included."""

    @abstractmethod
    def adapter_weights(self) -> dict[str, Tensor]:
        """What is trained, on the CPU, by name."""

    @abstractmethod
    def load_adapter_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`adapter_weights` gave."""


def attach_adapter(model: nn.Module, settings: Training, base_name: str, seed: int) -> Any:
    """``model`` with a fresh LoRA adapter (a PEFT model), whose update is zero.

    Raises:
        InputError: a target of the adapter is no part of the model.
    """
    from peft import LoraConfig, get_peft_model

    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if absent := [target for target in settings.lora_targets if target not in names]:
        linear = {name.rpartition(".")[2] for name, one in model.named_modules() if isinstance(one, nn.Linear)}
        raise InputError(
            "the model has no module of this name",
            field="alignment.training.lora_targets",
            value=absent[0],
            remedy=f"Its linear layers are: {', '.join(sorted(linear))}.",
        )
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(settings.lora_targets),
        base_model_name_or_path=base_name,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base_name
    drop_without_copies(adapted)
    return adapted


def adapter_weights(adapted: Any) -> dict[str, Tensor]:
    """The adapter's weights on the CPU, by the names under which PEFT stores them."""
    if isinstance(adapted, OwnAdapter):
        return adapted.adapter_weights()
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(state.items())}


def load_adapter_weights(adapted: Any, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Put ``weights`` into the adapter of ``adapted``.

    Raises:
        InputError: names or shapes are those of another adapter.
    """
    present = {name: tuple(tensor.shape) for name, tensor in adapter_weights(adapted).items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if present != given:
        odd = sorted(name for name in present.keys() | given.keys() if present.get(name) != given.get(name))
        raise InputError(
            f"this adapter does not fit the model: {len(odd)} tensors differ in name or shape, first {odd[0]} "
            f"(here {given.get(odd[0])}, in the model {present.get(odd[0])})",
            file=source,
            remedy="It was trained with another base model, rank or targets; use those, or train it again.",
        )
    if isinstance(adapted, OwnAdapter):
        adapted.load_adapter_weights(weights)
        return
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(adapted, dict(weights))


def save_adapter(folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write an adapter that PEFT and inference servers can load. Equal weights and settings give equal bytes."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(sorted(weights.items())), folder / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(dict(config), indent=2, sort_keys=True, default=_plain)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def read_adapter(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and configuration of the adapter in ``folder``.

    Raises:
        InputError: it is no LoRA adapter.
    """
    weights, config = read_files(folder)
    if config.get("peft_type") != "LORA":
        raise InputError(
            "this adapter is no LoRA adapter",
            file=folder,
            value=config.get("peft_type"),
            remedy="Only LoRA is supported.",
        )
    return weights, config


def read_files(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and configuration in ``folder``, of whatever kind.

    Raises:
        InputError: there are none.
    """
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return load_file(folder / WEIGHTS), config
    except FileNotFoundError as error:
        raise InputError("there is no adapter here", file=folder, remedy="Train the policy first.") from error


def adapter_config(adapted: Any) -> dict[str, Any]:
    """The configuration of the adapter of ``adapted``, as PEFT writes it for inference."""
    config: dict[str, Any] = adapted.peft_config["default"].to_dict()
    return {**config, "inference_mode": True}


def _plain(value: Any) -> Any:
    """What JSON does not know: sets in order, enumerations as their value."""
    return sorted(value) if isinstance(value, (set, frozenset)) else value.value
