"""One way to train: the loop, its checkpoints, its guard against NaN and its early stop, for policies and rewards."""

from modpo_hpc.training.checkpoint import Layout, Position
from modpo_hpc.training.loop import (
    Learner,
    NotANumber,
    OnEvaluation,
    OnRow,
    Row,
    TrainingContext,
    Watch,
    nothing,
    train,
)

__all__ = [
    "Layout",
    "Learner",
    "NotANumber",
    "OnEvaluation",
    "OnRow",
    "Position",
    "Row",
    "TrainingContext",
    "Watch",
    "nothing",
    "train",
]
