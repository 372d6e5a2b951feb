"""One base model for the policies that a process trains one after the other."""

from __future__ import annotations

import copy
import gc
import sys
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from modpo_hpc.errors import InputError
from modpo_hpc.resident import kept, resident_shards

if TYPE_CHECKING:
    import torch
    from torch import nn


def resident_base(key: Hashable, load: Callable[[], nn.Module], device: torch.device) -> Any:
    """A base model for one adapter: what ``load`` gives, or the kept one, on ``device``, in modules of its own.

    The copy has modules, hooks and configuration of its own around the weights of the kept model, so that whatever a
    method does to it (PEFT leaves an attribute behind when it unloads) goes with the copy. Weights that were changed
    or exchanged all the same are loaded again; a write through ``.data`` is not seen.
    """
    if resident_shards() is None:
        return load()
    import torch

    gc.collect()  # the adapter and optimizer of the policy before, whose modules refer to each other
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    base = kept(("base", key), lambda: _ResidentBase(load().to(device)), _ResidentBase.untouched)
    loaded = "loaded, and stays for the policies that this process trains next"
    print(f"the base model is {'here from the policy before' if base.taken else loaded}", file=sys.stderr, flush=True)
    return base.in_modules_of_its_own()


class _ResidentBase:
    """A model that is never used itself."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._learns = [one.requires_grad for one in model.parameters()]
        self._state = self._states()
        self.taken = False

    def untouched(self) -> bool:
        return self._state == self._states()

    def in_modules_of_its_own(self) -> nn.Module:
        self.taken = True
        for parameter, learns in zip(self._model.parameters(), self._learns, strict=True):
            parameter.requires_grad_(learns).grad = None
        return copy.deepcopy(self._model, {id(one): one for one in self._tensors()})

    def _tensors(self) -> list[torch.Tensor]:
        return [*self._model.parameters(), *self._model.buffers()]

    def _states(self) -> list[tuple[object, ...]]:
        return [(one.data_ptr(), one.dtype, one.shape, one._version) for one in self._tensors()]


def refuse_resident(processes: int, deepspeed: str | None) -> None:
    """Refuse to train in processes of their own where this one keeps the base model for all.

    Raises:
        InputError: ``processes`` or ``deepspeed`` ask for that.
    """
    if resident_shards() is None:
        return
    why = f"deepspeed {deepspeed}" if deepspeed is not None else f"{processes} processes"
    raise InputError(
        f"this job keeps one base model for its policies, and {why} would each load their own",
        field="stages.policies.resident",
        value=True,
        remedy="Take resident out of the profile, or train each policy in one process on one GPU: "
        "alignment.training.processes 1, no deepspeed.",
    )
