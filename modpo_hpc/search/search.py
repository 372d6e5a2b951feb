"""Search of hyperparameters by many workers that is the same search whatever the workers do.

A search has a fixed number of trials, each with its own number. Its first ``startup`` trials are drawn at random;
the others come in waves of ``wave``, and a trial learns (by TPE) from exactly the trials of the waves before its own.
It is pruned against those trials only, too. So what a trial suggests, and when it stops, follow from the seed, its
number and the results of earlier waves, never from which worker was faster. The journal makes this fast: every worker
sees what the others did, and no trial is computed twice.

Any worker may be asked for any trial. It first sees that the waves before are finished: it takes the trials that
nobody has begun and those whose worker died, and waits for the ones that others compute. So no order of the workers
can lock the search.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from modpo_hpc.errors import Interrupted, ModpoError
from modpo_hpc.liveness import is_dead, this_process
from modpo_hpc.search.journal import JournalBackend, locked
from modpo_hpc.search.plan import DIRECTION, Objective, RunningTrial, SearchPlan, Trial, as_optuna
from modpo_hpc.seeds import seed_of

OWNER, ATTEMPTS, BEAT, SEEN = "owner", "attempts", "beat", "learned_from"
POLL_SECONDS = 0.5
BEAT_SECONDS = 20.0
SILENCE_SECONDS = 120.0
_unless_finished = suppress(UpdateFinishedTrialError)
"""Around what a worker writes: another may have finished its trial (it took this one for dead): with equal results."""


class Search:
    """One search on one journal; any number of workers, on any number of machines, may hold one at once."""

    def __init__(self, journal: Path, plan: SearchPlan, check: Callable[[], None] = lambda: None) -> None:
        """Open or begin the search of ``plan`` in ``journal``; ``check`` is called while waiting and may raise."""
        self.plan, self._check = plan, check
        self._path = journal.resolve()  # the lock is found by its path, from any working directory
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = JournalFileOpenLock(f"{self._path}.claim")
        self._storage = JournalStorage(JournalBackend(self._path))
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=f"{plan.name} {plan.fingerprint}",
            direction=DIRECTION,
            load_if_exists=True,
        )
        if len(self._frozen()) < plan.trials:
            with locked(self._lock):
                for _ in range(len(self._frozen()), plan.trials):
                    self._study.add_trial(create_trial(state=TrialState.WAITING))
        self._silence: dict[int, tuple[object, float]] = {}

    def run(self, number: int, objective: Objective) -> Trial:
        """Trial ``number``, computed by ``objective`` unless it is finished already.

        The objective gets one ``RunningTrial`` and returns the value of the trial. It may be called for trials of
        earlier waves first. It must depend on ``trial.number`` and ``trial.params`` only.

        Raises:
            ModpoError: an earlier trial failed too often.
        """
        for earlier in self.plan.learns_from(number):
            if earlier not in self._finished():
                self._finish(earlier, objective, asked=False)
        self._finish(number, objective, asked=True)
        return self._finished()[number]

    def finished(self) -> list[Trial]:
        """The trials that are finished, by number."""
        return [trial for _, trial in sorted(self._finished().items())]

    def _finish(self, number: int, objective: Objective, asked: bool) -> None:
        while number not in self._finished():
            self._check()
            if self._claim(number, asked):
                self._compute(number, objective)
            else:
                time.sleep(POLL_SECONDS)

    def _claim(self, number: int, asked: bool) -> bool:
        """Whether this worker now owns the trial: nobody had begun it, or its worker is gone."""
        if not self._is_free(self._frozen()[number]):
            return False
        with locked(self._lock):
            trial = self._frozen()[number]
            if trial.state.is_finished() or not self._is_free(trial):
                return False
            attempts = list(trial.user_attrs.get(ATTEMPTS, []))
            if attempts and attempts[-1]["end"] is None:
                attempts[-1] = {**attempts[-1], "end": "its worker died"}
            failures = [attempt for attempt in attempts if attempt["end"] != "interrupted"]
            if len(failures) > self.plan.retries and not asked:
                ends = "; ".join(f"{one['worker']}: {one['end']}" for one in failures)
                raise ModpoError(
                    f"search {self.plan.name}: trial {number}, from which later ones learn, failed "
                    f"{len(failures)} times ({ends}). See its log, remove the cause, and run this trial again by name."
                )
            if trial.state == TrialState.WAITING:
                self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            worker = this_process()
            self._set(trial, ATTEMPTS, [*attempts, {"worker": worker, "end": None}])
            self._set(trial, OWNER, worker)
        return True

    def _is_free(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER)
        if trial.state == TrialState.WAITING or owner in (None, this_process()):
            return True  # a process computes one trial at a time, and this one is computing none
        dead = is_dead(owner)
        if dead is not None:
            return dead
        sign = (owner, trial.user_attrs.get(BEAT))
        heard, since = self._silence.get(trial.number, (None, 0.0))
        if heard != sign:
            self._silence[trial.number] = (sign, time.monotonic())
            return False
        return time.monotonic() - since > SILENCE_SECONDS

    def _compute(self, number: int, objective: Objective) -> None:
        frozen = self._frozen()[number]
        seen = [self._finished()[one] for one in self.plan.learns_from(number)]
        view = self._view(seen, number)
        asked = view.ask(dict(self.plan.space))
        with _unless_finished:
            for name, kind in asked.distributions.items():
                drawn = kind.to_internal_repr(asked.params[name])
                self._storage.set_trial_param(frozen._trial_id, name, drawn, kind)

        def report(step: int, value: float) -> None:
            with _unless_finished:
                self._storage.set_trial_intermediate_value(frozen._trial_id, step, value)
            asked.report(value, step)
            if asked.should_prune():
                raise optuna.TrialPruned()

        attempt = RunningTrial(number, dict(asked.params), report)
        try:
            with self._beating(frozen):
                value, state = objective(attempt), TrialState.COMPLETE
        except optuna.TrialPruned:
            value, state = list(view.trials[-1].intermediate_values.values())[-1], TrialState.PRUNED
        except BaseException as error:
            stopped = isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit))
            self._release(frozen, "interrupted" if stopped else f"{type(error).__name__}: {error}"[:500])
            raise
        with _unless_finished:
            for name, fact in {**attempt.facts, SEEN: len(seen)}.items():
                self._set(frozen, name, fact)
            self._storage.set_trial_state_values(frozen._trial_id, state, [float(value)])

    def _release(self, frozen: FrozenTrial, end: str) -> None:
        *before, last = self._frozen()[frozen.number].user_attrs[ATTEMPTS]
        with _unless_finished:
            self._set(frozen, ATTEMPTS, [*before, {**last, "end": end}])
            self._set(frozen, OWNER, None)

    def _view(self, seen: Sequence[Trial], number: int) -> optuna.Study:
        """A study in memory that holds exactly the trials that trial ``number`` may see."""
        plan = self.plan
        seed = seed_of(plan.seed, number) % 2**32
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if plan.prune_after is not None:
            pruner = optuna.pruners.MedianPruner(n_startup_trials=max(1, plan.startup), n_warmup_steps=plan.prune_after)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(1, plan.startup))
        view = optuna.create_study(direction=DIRECTION, sampler=sampler, pruner=pruner)
        view.add_trials([as_optuna(trial, plan.space) for trial in seen])
        return view

    @contextmanager
    def _beating(self, frozen: FrozenTrial) -> Iterator[None]:
        """Show other machines, while the block runs, that this trial's worker lives."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(BEAT_SECONDS):
                with _unless_finished:
                    self._set(frozen, BEAT, time.time())

        thread = threading.Thread(target=beat, daemon=True, name=f"heartbeat of trial {frozen.number}")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _set(self, frozen: FrozenTrial, name: str, value: object) -> None:
        self._storage.set_trial_user_attr(frozen._trial_id, name, value)

    def _frozen(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study._study_id, deepcopy=False)

    def _finished(self) -> dict[int, Trial]:
        return {one.number: _trial(one) for one in self._frozen() if one.state.is_finished()}


def _trial(frozen: FrozenTrial) -> Trial:
    bookkeeping = (OWNER, ATTEMPTS, BEAT)
    return Trial(
        number=frozen.number,
        params=dict(frozen.params),
        value=float(frozen.values[0]),
        pruned=frozen.state == TrialState.PRUNED,
        curve={int(step): float(value) for step, value in frozen.intermediate_values.items()},
        facts={name: value for name, value in frozen.user_attrs.items() if name not in bookkeeping},
    )
