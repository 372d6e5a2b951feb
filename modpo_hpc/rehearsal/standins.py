"""Stand-ins: texts of a real length from nobody's model, and a clock around them."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modpo_hpc.generation.records import Completion, Request
from modpo_hpc.resources import shipped
from modpo_hpc.run import Run, Shard
from modpo_hpc.sandbox.compose import compose_reply
from modpo_hpc.seeds import rng_of

STAND_IN_SECONDS = "stand_in_seconds"
MEAN_CHARACTERS = 1100
_CHARACTERS_A_TOKEN = 4.4


class ComposingEngine:
    """Answers with invented sentences, as many as a 7B counsellor would write: 1,100 characters on average."""

    def complete(
        self, requests: Sequence[Request], on_done: Callable[[int], None] = lambda done: None
    ) -> list[Completion]:
        """One text for each request, drawn from its seed alone."""
        made = [_compose(one) for one in requests]
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


@contextmanager
def timed_judge(shard: Shard) -> Iterator[None]:
    """The time that the rule judge takes inside the block is noted in the metrics of ``shard``."""
    from modpo_hpc.judging.rules import RuleJudge

    clock, answer = Clock(), RuleJudge.answer
    RuleJudge.answer = clock.around(answer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        RuleJudge.answer = answer  # type: ignore[method-assign]
    shard.metrics[STAND_IN_SECONDS] = clock.seconds


def shipped_recipe(verb: str) -> Callable[[Run, Shard], None]:
    """The recipe that the project ships, whatever stands in for it."""
    specification = importlib.util.spec_from_file_location(f"shipped_{verb}", shipped(f"jobs/{verb}.py"))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    function: Callable[[Run, Shard], None] = getattr(module, verb)
    return function


def write_folder(shard: Shard, what: str, **facts: Any) -> None:
    """A folder of the shard's name with a note in it, in the place of weights."""
    with shard.directory(shard.id) as folder:
        note = {"stand_in": True, "made_by": what, "shard": shard.id, **facts}
        (Path(folder) / "summary.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def _compose(request: Request) -> Completion:
    rng = rng_of("stand-in", request.seed)
    wanted = float(np.clip(rng.lognormal(np.log(MEAN_CHARACTERS) - 0.08, 0.4), 120, 2600))
    parts: list[str] = []
    while sum(map(len, parts)) < wanted:
        parts.append(compose_reply(request.question, rng))
    text = " ".join(parts)
    return Completion(request.id, text, round(len(text) / _CHARACTERS_A_TOKEN), "stop")
