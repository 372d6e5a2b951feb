"""What a search of hyperparameters is made of: its plan, its trials, and a trial that is being computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from modpo_hpc.seeds import seed_of

optuna.logging.set_verbosity(optuna.logging.WARNING)
DIRECTION: Final = "maximize"


@dataclass(frozen=True)
class SearchPlan:
    """What is searched and how.

    Attributes:
        name: of the search; another name is another search, even in the same journal.
        space: parameter -> Optuna distribution.
        trials: how many there are, however many workers ask.
        startup: trials drawn at random before TPE begins.
        wave: trials that are drawn without seeing one another; as many can run at once without waiting.
        prune_after: reports that every trial may make before the median rule can stop it; None never stops one.
        retries: how often other workers take up a trial whose worker died or failed. A worker that is asked for the
            trial by its number takes it up always: how often that happens is the scheduler's word.
    """

    name: str
    space: Mapping[str, BaseDistribution]
    trials: int
    seed: int
    startup: int = 10
    wave: int = 5
    prune_after: int | None = 1
    retries: int = 2

    @property
    def fingerprint(self) -> str:
        """Changes with all that decides which settings a trial gets."""
        space = sorted((name, optuna.distributions.distribution_to_json(one)) for name, one in self.space.items())
        return f"{seed_of(self.seed, self.startup, self.wave, self.prune_after, DIRECTION, space):016x}"

    def learns_from(self, number: int) -> range:
        """The numbers of the trials that trial ``number`` sees."""
        if number < self.startup:
            return range(0)
        return range(self.startup + (number - self.startup) // self.wave * self.wave)


@dataclass(frozen=True)
class Trial:
    """A finished trial. ``curve`` holds what it reported by step, ``facts`` what else it recorded."""

    number: int
    params: dict[str, Any]
    value: float
    pruned: bool
    curve: dict[int, float]
    facts: dict[str, Any]


@dataclass
class RunningTrial:
    """A trial that is being computed, as the objective sees it.

    ``report`` records a value at a step (counted from zero, every step once). It raises ``optuna.TrialPruned`` where
    the median rule stops the trial: let it pass.
    """

    number: int
    params: dict[str, Any]
    report: Callable[[int, float], None] = field(repr=False)
    facts: dict[str, Any] = field(default_factory=dict)
    reported: int = 0

    def follow(self, curve: Sequence[float], ended: bool) -> None:
        """Report what is new of ``curve``, the values so far. What has ``ended`` cannot be stopped any more."""
        while self.reported < len(curve):
            self.reported += 1
            with suppress(optuna.TrialPruned) if ended else nullcontext():
                self.report(self.reported - 1, curve[self.reported - 1])


Objective = Callable[[RunningTrial], float]


def as_optuna(trial: Trial, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """``trial`` as Optuna's own record, for its samplers, pruners and plots."""
    return create_trial(
        state=TrialState.PRUNED if trial.pruned else TrialState.COMPLETE,
        value=trial.value,
        params=trial.params,
        distributions=dict(space),
        intermediate_values=trial.curve,
    )
