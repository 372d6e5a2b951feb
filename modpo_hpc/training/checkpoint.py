"""Checkpoints of a training run: complete or not there, and refused before a model is loaded if they do not fit."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modpo_hpc.core.atomic import write_text
from modpo_hpc.errors import InputError

_STATE, _COMPLETE, _PREFIX = "state.json", "complete", "step-"
_KEEP = 2


@dataclass(frozen=True)
class Layout:
    """What a checkpoint's tensors depend on: only the same layout, or one named in ``resumable``, can read them."""

    engine: str
    processes: int
    zero_stage: int | None = None
    offload: bool = False


@dataclass
class Position:
    """Where a training run is: everything beside weights and optimizer that the next step depends on.

    ``evaluations`` are the rows of ``log`` that hold one.
    """

    step: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    best_score: list[float] | None = None
    best_step: int = 0
    evaluations_without_gain: int = 0
    stopped_early: bool = False


def why_not_resumable(saved: Layout, wanted: Layout) -> str | None:
    """The reason why a checkpoint of ``saved`` cannot go on as ``wanted``, or None if it can."""
    if saved == wanted:
        return None
    if saved.engine != wanted.engine:
        return f"it was written by the {saved.engine} engine, and this run uses {wanted.engine}"
    if saved.processes != wanted.processes:
        return (
            f"it was written by {saved.processes} processes, each with its part of the optimizer, "
            f"and this run has {wanted.processes}"
        )
    if 3 in (saved.zero_stage, wanted.zero_stage):
        return (
            f"it was written under ZeRO stage {saved.zero_stage}; stage {wanted.zero_stage} lays weights out otherwise"
        )
    if {saved.zero_stage, wanted.zero_stage} == {1, 2} and saved.offload == wanted.offload:
        return None
    return (
        f"it was written under ZeRO stage {saved.zero_stage}{' with offload' if saved.offload else ''}, "
        f"this run uses stage {wanted.zero_stage}{' with offload' if wanted.offload else ''}"
    )


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in ``folder``."""
    return max(_complete(folder), default=None)


def refuse_unresumable(folder: Path, wanted: Layout) -> None:
    """Stop, before a model is loaded, if the newest checkpoint in ``folder`` cannot go on as ``wanted``.

    Raises:
        InputError: says why and what to do.
    """
    if checkpoint := latest_checkpoint(folder):
        _resumable_state(checkpoint, wanted)


def read_position(checkpoint: Path, wanted: Layout, plan: str) -> Position:
    """The position in ``checkpoint``.

    Raises:
        InputError: the checkpoint belongs to another layout or plan; says why and what to do.
    """
    state = _resumable_state(checkpoint, wanted)
    if state["plan"] != plan:
        raise _refusal(checkpoint, "its batches are those of other data or settings")
    return Position(**state["position"])


def start_checkpoint(folder: Path, step: int) -> Path:
    """An empty folder for the tensors of ``step``; not a checkpoint before ``finish_checkpoint``."""
    checkpoint = folder / f"{_PREFIX}{step:08d}"
    shutil.rmtree(checkpoint, ignore_errors=True)
    checkpoint.mkdir(parents=True)
    return checkpoint


def finish_checkpoint(checkpoint: Path, layout: Layout, plan: str, position: Position) -> None:
    """Declare ``checkpoint`` complete, and remove all but the newest two."""
    state = {"layout": asdict(layout), "plan": plan, "position": asdict(position)}
    write_text(checkpoint / _STATE, json.dumps(state))
    for file in (one for one in checkpoint.rglob("*") if one.is_file()):
        with open(file, "rb") as written:
            os.fsync(written.fileno())
    write_text(checkpoint / _COMPLETE, "complete\n")
    for old in _complete(checkpoint.parent)[:-_KEEP]:
        (old / _COMPLETE).unlink()
        shutil.rmtree(old, ignore_errors=True)


def _complete(folder: Path) -> list[Path]:
    """The complete checkpoints in ``folder``, the newest last."""
    return sorted(one for one in folder.glob(f"{_PREFIX}*") if (one / _COMPLETE).exists())


def _resumable_state(checkpoint: Path, wanted: Layout) -> dict[str, Any]:
    """What ``finish_checkpoint`` wrote. Raises InputError: a run of the layout ``wanted`` cannot read the tensors."""
    state = json.loads((checkpoint / _STATE).read_bytes())
    if reason := why_not_resumable(Layout(**state["layout"]), wanted):
        raise _refusal(checkpoint, reason)
    return state


def _refusal(checkpoint: Path, reason: str) -> InputError:
    return InputError(
        f"this checkpoint cannot be resumed: {reason}",
        file=checkpoint,
        remedy=f"Train with the layout it was written with, or remove {checkpoint.parent} to start over.",
    )
