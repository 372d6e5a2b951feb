"""The rows of a training log, as they come, for TensorBoard and for Weights & Biases (offline): optional extras."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from modpo_hpc.errors import InputError
from modpo_hpc.training import OnRow

Row = Mapping[str, Any]


def require_trackers(kinds: Sequence[str]) -> None:
    """Refuse trackers (named as their packages) that are not installed, before a model is loaded.

    Raises:
        InputError: names the extra that brings it.
    """
    for kind in kinds:
        if importlib.util.find_spec(kind) is None:
            raise InputError(
                f"{kind} is not installed here",
                field="alignment.training.track",
                value=kind,
                remedy=f"Install it: pip install 'modpo-hpc[{kind}]'; log.jsonl is written without it.",
            )


@contextmanager
def tracked(kinds: Sequence[str], folder: Path, name: str, settings: Row) -> Iterator[OnRow]:
    """A function that passes each row on to ``kinds``, whose files lie below ``folder``.

    They are no results: a killed and resumed training may show a step twice, with equal values.
    """
    with ExitStack() as stack:
        writers = [stack.enter_context(_OPENERS[kind](folder / kind, name, settings)) for kind in kinds]

        def on_row(row: Row) -> None:
            for write in writers:
                write(int(row["step"]), numbers_in(row))

        yield on_row


def numbers_in(row: Row, prefix: str = "") -> dict[str, float]:
    """The numbers of a row of the log, nested ones under ``outer/inner``; the step and the epoch left out."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= numbers_in(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name not in ("step", "epoch"):
            found[prefix + name] = float(value)
    return found


_Write = Callable[[int, Mapping[str, float]], None]


@contextmanager
def _tensorboard(folder: Path, name: str, settings: Row) -> Iterator[_Write]:
    from torch.utils.tensorboard import SummaryWriter

    def write(step: int, values: Mapping[str, float]) -> None:
        for one, value in values.items():
            writer.add_scalar(one, value, step)

    with SummaryWriter(str(folder)) as writer:
        writer.add_text(name, "\n".join(f"    {setting}: {value}" for setting, value in settings.items()))
        yield write


@contextmanager
def _wandb(folder: Path, name: str, settings: Row) -> Iterator[_Write]:
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE", "offline")
    with wandb.init(project="modpo-hpc", name=name, dir=str(folder), config=dict(settings), mode=mode) as board:
        yield lambda step, values: board.log(dict(values), step=step)


_OPENERS = {"tensorboard": _tensorboard, "wandb": _wandb}
