"""The training loop: step, evaluate, checkpoint, stop. What is trained, a :class:`Learner`, knows nothing of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from modpo_hpc.errors import Interrupted, ModpoError
from modpo_hpc.training.checkpoint import (
    Layout,
    Position,
    finish_checkpoint,
    latest_checkpoint,
    read_position,
    start_checkpoint,
)

Row = dict[str, Any]
OnRow = Callable[[Row], object]
OnEvaluation = Callable[[list[Row], bool], object]
"""Gets all evaluations so far, and whether training has ended; it may raise to stop a training that has not."""


def nothing(*_: object, **__: object) -> None:
    """Do nothing with a row of the log, with the evaluations, with progress."""


class Watch(Protocol):
    """Who looks on while something trains: a shard, or the parent of several processes."""

    def progress(self, done: int, total: int, unit: str, **metrics: float) -> None:
        """Say how far it is."""

    def check(self) -> None:
        """Raise ``Interrupted`` when it should stop."""


@dataclass(frozen=True)
class TrainingContext:
    """Where a training keeps what its successor resumes from, and whom it tells how far it is: a watch, too."""

    scratch: Path
    check: Callable[[], None] = nothing
    progress: Callable[..., None] = nothing


class Learner(Protocol):
    """What is trained, as one of ``layout.processes`` processes that hold it and call all this together."""

    layout: Layout
    rank: int = 0
    remedy: str
    """What to change where the loss is no number."""

    def gradients(self, number: int) -> Row:
        """The gradients of step ``number`` (from 0), and its row of the log; ``loss`` is in it. Changes no weight."""

    def update(self, number: int) -> Row:
        """Take the step, and give more for its row; ``grad_norm``, before clipping, is in it."""

    def items(self, number: int) -> Sequence[str]:
        """What the step is made of, for people."""

    def evaluate(self, log: Sequence[Row]) -> Row | None:
        """The evaluation that is due after the last row of ``log``, or None."""

    def score(self, evaluation: Row) -> Sequence[float]:
        """What early stopping compares, lower is better."""

    def keep_best(self) -> None:
        """Remember the present weights as the best."""

    def shown(self, log: Sequence[Row]) -> dict[str, float]:
        """What ``modpo status`` shows."""

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over the processes."""
        return list(values)

    def save(self, checkpoint: Path) -> None:
        """Write the state, this process's part of it, into a folder."""

    def load(self, checkpoint: Path) -> None:
        """Read what ``save`` wrote."""

    def digest(self) -> str:
        """Hash of all that decides the course of the training beside the model: no other goes on from here."""


class NotANumber(ModpoError):
    """The loss of a step, or its gradient, is NaN or infinite."""


def train(
    learner: Learner,
    steps: int,
    checkpoints: Path,
    watch: Watch,
    *,
    checkpoint_seconds: float,
    patience: int | None = None,
    on_evaluation: OnEvaluation = nothing,
    on_row: OnRow = nothing,
) -> Position:
    """Train ``learner`` for ``steps`` steps, from the newest checkpoint or from the start; returns where it ended.

    Args:
        checkpoints: folder of the checkpoints, shared by all processes.
        checkpoint_seconds: least time between two of them; 0 writes one after every step.
        patience: evaluations without a better score that end training; None: never.
        on_evaluation: called after each evaluation, and once more at the end.
        on_row: gets each row of the log as it is written.

    Raises:
        InputError: the checkpoint there cannot be resumed.
        Interrupted: asked to stop; the state is saved.
        NotANumber: the loss is none; says at which step, and where the state before it is.
    """
    position, plan = Position(), learner.digest()
    if checkpoint := latest_checkpoint(checkpoints):
        position = read_position(checkpoint, learner.layout, plan)
        learner.load(checkpoint)
    saved, saved_at = position.step, time.monotonic()

    def note(row: Row) -> None:
        position.log.append(row)
        on_row(row)

    while position.step < steps and not position.stopped_early:
        number = position.step
        row = learner.gradients(number)
        _require_finite("loss", row["loss"], learner, number, steps, checkpoints)
        row |= learner.update(number)
        _require_finite("gradient's norm", row["grad_norm"], learner, number, steps, checkpoints)
        position.step += 1
        note({"step": position.step, **row})
        if (measured := learner.evaluate(position.log)) is not None:
            measured = {"step": position.step, **measured}
            note(measured)
            position.evaluations.append(measured)
            if _improved(position, list(learner.score(measured)), patience) and patience is not None:
                learner.keep_best()
            if position.step < steps and not position.stopped_early:
                on_evaluation(position.evaluations, False)
        watch.progress(position.step, steps, "steps", **learner.shown(position.log))
        wish = wish_of(watch)
        asked, due = learner.total([float(wish is not None), float(time.monotonic() - saved_at >= checkpoint_seconds)])
        if (asked or (due and position.step < steps)) and saved < position.step:
            _save(learner, plan, checkpoints, position)
            saved, saved_at = position.step, time.monotonic()
        if asked:
            raise wish or Interrupted("asked to stop; the next attempt goes on from here")
    on_evaluation(position.evaluations, True)
    return position


def _require_finite(what: str, value: float, learner: Learner, number: int, steps: int, checkpoints: Path) -> None:
    if not math.isfinite(value):
        questions = ", ".join(learner.items(number)[:20])
        raise NotANumber(
            f"step {number + 1} of {steps}: the {what} is {value}; the questions of this step are {questions}. "
            f"{learner.remedy} Checkpoints of earlier steps are in {checkpoints}."
        )


def _improved(position: Position, score: list[float], patience: int | None) -> bool:
    if position.best_score is None or score < position.best_score:
        position.best_score, position.best_step, position.evaluations_without_gain = score, position.step, 0
        return True
    position.evaluations_without_gain += 1
    position.stopped_early = patience is not None and position.evaluations_without_gain >= patience
    return False


def wish_of(watch: Watch) -> Interrupted | None:
    """What ``watch`` stops the training with; None where it may go on."""
    try:
        watch.check()
    except Interrupted as error:
        return error
    return None


def _save(learner: Learner, plan: str, checkpoints: Path, position: Position) -> None:
    folder = checkpoints / f"step-{position.step:08d}"
    if learner.rank == 0:
        folder = start_checkpoint(checkpoints, position.step)
    learner.total([0.0])  # nobody writes before the folder is there, and it is whole when everybody has written
    learner.save(folder)
    learner.total([0.0])
    if learner.rank == 0:
        finish_checkpoint(folder, learner.layout, plan, position)
