"""Stand-ins: texts of a real length from nobody's model, and a clock around them."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from modpo_hpc.generation.records import Completion, GenerationRequest
from modpo_hpc.resources import shipped
from modpo_hpc.run import Run, Shard
from modpo_hpc.sandbox.compose import compose_reply
from modpo_hpc.search import Trial
from modpo_hpc.seeds import rng_of

STAND_IN_SECONDS = "stand_in_seconds"
MEAN_CHARACTERS = 1100
_CHARACTERS_A_TOKEN = 4.4


class ComposingEngine:
    """Answers with invented sentences, as many as a 7B model would write: 1,100 characters on average."""

    has_queue = False

    def complete(
        self,
        requests: Sequence[GenerationRequest],
        on_done: Callable[[int], None],
        on_text: Callable[[Completion], None],
    ) -> list[Completion]:
        """One text for each request, drawn from its seed alone."""
        made = [_compose(one) for one in requests]
        for one in made:
            on_text(one)
        on_done(len(made))
        return made


@dataclass
class Clock:
    """Seconds that went into a stand-in."""

    seconds: float = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, its time counted."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


@contextmanager
def composing_engine(shard: Shard) -> Iterator[ComposingEngine]:
    """The engine, its time noted in the metrics of ``shard``."""
    clock, engine = Clock(), ComposingEngine()
    engine.complete = clock.around(engine.complete)  # type: ignore[method-assign]
    yield engine
    shard.metrics[STAND_IN_SECONDS] = clock.seconds


def with_timed_judge(run: Run, shard: Shard) -> None:
    """The recipe that the project ships; the time that the rule judge takes is noted in the metrics of ``shard``."""
    from modpo_hpc.judging.kinds.rules import RuleJudge

    verb, clock, answer = shard.stage.verb, Clock(), RuleJudge.answer
    specification = importlib.util.spec_from_file_location(f"shipped_{verb}", shipped(f"jobs/{verb}.py"))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    RuleJudge.answer = clock.around(answer)  # type: ignore[method-assign]
    try:
        getattr(module, verb)(run, shard)
    finally:
        RuleJudge.answer = answer  # type: ignore[method-assign]
    shard.metrics[STAND_IN_SECONDS] = clock.seconds


def drawn_trial(run: Run, criterion: str, number: int) -> dict[str, Any]:
    """A row of the trials' table for a trial that was never trained."""
    search = run.study.rewards.search
    rng = rng_of("stand-in trial", run.study.seed, criterion, number)
    epochs = int(rng.integers(search.epochs[0], search.epochs[1] + 1))
    accuracies = np.sort(rng.uniform(0.55, 0.9, epochs)).tolist()
    losses = (0.75 - 0.4 * np.array(accuracies)).tolist()
    return {
        "criterion": criterion,
        "trial": number,
        "state": "complete",
        "accuracy": accuracies[-1],
        "accuracy_low": accuracies[-1] - 0.05,
        "accuracy_high": accuracies[-1] + 0.05,
        "loss": losses[-1],
        "pairs": 238,
        "best_epoch": epochs,
        "learned_from": 2141,
        "seed": run.seed("reward_trials", criterion, number),
        "learning_rate": _log_uniform(rng, search.learning_rate),
        "weight_decay": _log_uniform(rng, search.weight_decay),
        "dropout": float(rng.uniform(*search.dropout)),
        "batch_size": int(rng.choice(search.batch_size)),
        "max_length": int(rng.choice(search.max_length)),
        "epochs": epochs,
        "cut_responses": 0,
        "accuracies": accuracies,
        "losses": losses,
        "training_losses": losses,
    }


def drawn_policy_trial(run: Run, policy: str, number: int) -> Trial:
    """A trial of the search of a policy's settings that was never trained."""
    search = run.study.alignment.search
    rng = rng_of("stand-in policy trial", run.study.seed, policy, number)
    params = {
        "learning_rate": _log_uniform(rng, search.learning_rate),
        "beta": _log_uniform(rng, search.beta),
        "lora_rank": int(rng.choice(search.lora_rank)),
        "lora_alpha": int(rng.choice(search.lora_alpha)),
        "lora_dropout": float(rng.uniform(*search.lora_dropout)),
        "micro_batch_size": int(rng.choice(search.micro_batch_size)),
        "gradient_accumulation": int(rng.choice(search.gradient_accumulation)),
        "epochs": int(rng.integers(search.epochs[0], search.epochs[1] + 1)),
    }
    accuracy = float(rng.uniform(0.55, 0.9))
    facts = {"accuracy": accuracy, "loss": 1 - accuracy, "steps": 100}
    return Trial(number, params, accuracy, False, {0: accuracy}, facts)


def drawn_predictions(run: Run, criterion: str, part: str) -> list[dict[str, Any]]:
    """Rows of the predictions' table for a model that was never trained: the better response mostly wins."""
    pairs = run.table("pairs", ["question_id", "chosen", "rejected", "margin"], [criterion]).to_pylist()
    rows = []
    for number, pair in enumerate(one for one in pairs if one["margin"] > 0):
        fold = number % run.study.rewards.folds
        if part != "final" and fold != (int(part.removeprefix("fold")) if part.startswith("fold") else 0):
            continue
        chosen, rejected = rng_of("stand-in reward", criterion, part, pair["question_id"]).normal((1.0, 0.0)).tolist()
        made = {"criterion": criterion, "part": part, "fold": fold, "seen": part == "final"}
        rows.append({**made, **pair, "reward_chosen": chosen, "reward_rejected": rejected})
    return rows


def write_folder(run: Run, shard: Shard) -> None:
    """A folder of the shard's name with a note in it, in the place of weights."""
    note = {"stand_in": True, "made_by": shard.stage.verb, "shard": shard.id}
    with shard.directory(shard.id) as folder:
        (folder / "summary.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _compose(request: GenerationRequest) -> Completion:
    rng = rng_of("stand-in", request.seed)
    wanted = float(np.clip(rng.lognormal(np.log(MEAN_CHARACTERS) - 0.08, 0.4), 120, 2600))
    parts: list[str] = []
    while sum(map(len, parts)) < wanted:
        parts.append(compose_reply(request.question, rng))
    text = " ".join(parts)
    return Completion(request.id, text, round(len(text) / _CHARACTERS_A_TOKEN), "stop")
