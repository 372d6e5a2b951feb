"""The policies of a run as models that answer: the base model, alone or with an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modpo_hpc.device import compute_device
from modpo_hpc.errors import IncompleteError
from modpo_hpc.generation.product import Product, WithAdapter
from modpo_hpc.models import base_model_path
from modpo_hpc.quantization import base_weights
from modpo_hpc.run import Run

_ROUNDING = 1e-9


def adapter_path(run: Run, policy: str | None) -> Path | None:
    """Folder of the adapter of ``policy``; None for the base model, which needs none.

    Raises:
        IncompleteError: the policy is not trained yet.
    """
    if policy is None:
        return None
    stage = run.study.alignment.policies[policy].stage
    if stage is None:
        return None
    run.require(stage, [policy])
    folder = run.folder(stage) / policy / "adapter"
    if not (folder / "adapter_config.json").is_file():
        raise IncompleteError(
            f"{folder}: the adapter is gone. Make it again with: modpo rerun {run.quoted} {stage} {policy}"
        )
    return folder


def link_policy_as_model(run: Run, policy: str, folder: Path) -> None:
    """Fill ``folder`` so that it loads as ``policy`` by its path alone: for servers that take no adapter by name.

    It holds links to the base model's files and to the adapter's. Nothing is merged: transformers loads the base
    weights and attaches the adapter that it finds beside them.

    Raises:
        IncompleteError: the policy is not trained yet.
    """
    base, adapter = Path(base_model_path(run)), adapter_path(run, policy)
    assert adapter is not None
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*base.iterdir(), *adapter.iterdir()):
        if file.is_file() and file.name != "README.md":
            link = folder / file.name
            link.unlink(missing_ok=True)
            link.symlink_to(file.resolve())


def load_tokenizer(run: Run) -> Any:
    """The base model's tokenizer, which every policy uses."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_model_path(run))


def load_policy(run: Run, policy: str | None) -> Any:
    """The model of ``policy`` (None: the base model), in evaluation mode, on the GPU if there is one.

    The base weights are loaded in the precision they were trained against. In float32 the adapter is merged into
    them, which changes nothing but rounding and makes decoding faster. In bfloat16 or in four bits merging would
    round the update away against the larger base weights, so the adapter stays attached.

    Raises:
        IncompleteError: the policy is not trained yet.
        InputError: the study wants weights in four bits, and what holds them is not installed.
    """
    settings, adapter, model = run.study.models, adapter_path(run, policy), _load_base(run)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter), autocast_adapter_dtype=False)
        if settings.dtype == "float32" and settings.quantization is None:
            model = model.merge_and_unload()
    return model.eval()


def load_product(run: Run, experts: Mapping[str, float]) -> Product:
    """The policies ``experts`` as one model, each with its power; the base model has what their sum leaves of 1.

    The base weights are in memory once, and the adapters stay attached to them.

    Raises:
        IncompleteError: a policy is not trained yet.
        InputError: as ``load_policy``.
    """
    from peft import PeftModel

    powers = {name: power for name, power in experts.items() if power}
    adapters = {name: str(adapter_path(run, name)) for name in powers}
    first, *others = adapters
    adapted = PeftModel.from_pretrained(
        _load_base(run), adapters[first], adapter_name=first, autocast_adapter_dtype=False
    )
    for name in others:
        adapted.load_adapter(adapters[name], adapter_name=name, autocast_adapter_dtype=False)
    adapted.eval()
    left = 1 - sum(powers.values())
    members = [(WithAdapter(adapted, name), power) for name, power in powers.items()]
    base = [] if abs(left) < _ROUNDING else [(WithAdapter(adapted, None), left)]
    return Product((*members, *base))


def _load_base(run: Run) -> Any:
    from transformers import AutoModelForCausalLM

    settings, device = run.study.models, compute_device()
    model: Any = AutoModelForCausalLM.from_pretrained(
        base_model_path(run), attn_implementation=settings.attention, **base_weights(settings, device)
    )
    return model.to(device) if settings.quantization is None else model
