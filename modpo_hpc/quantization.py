"""The precision of the base model's weights: the same in training, in scoring and when a policy answers."""

from __future__ import annotations

import importlib.util
from typing import Any

from modpo_hpc.errors import InputError
from modpo_hpc.study.data import Models


def precision_name(models: Models) -> str:
    """The precision of the base weights, as far as it changes what the model says."""
    return f"{models.quantization} in {models.dtype}" if models.quantization else models.dtype


def base_weights(models: Models, device: Any) -> dict[str, Any]:
    """What ``from_pretrained`` is told about the precision of the base model.

    With ``models.quantization: nf4`` the linear layers are held in four bits (NormalFloat with double quantization,
    Dettmers et al. 2023) and computed in ``models.dtype``; the model is then on ``device`` and must not be moved.

    Raises:
        InputError: bitsandbytes, which holds weights in four bits, is not installed.
    """
    import torch

    dtype = getattr(torch, models.dtype)
    if models.quantization is None:
        return {"dtype": dtype}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "weights in four bits need bitsandbytes, which is not installed here",
            field="models.quantization",
            value=models.quantization,
            remedy="Install it: pip install 'modpo-hpc[nf4]'; or leave models.quantization empty.",
        )
    from transformers import BitsAndBytesConfig

    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=models.quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"dtype": dtype, "quantization_config": four_bits, "device_map": {"": device}}
