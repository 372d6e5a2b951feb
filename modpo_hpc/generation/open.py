"""The engine that the study asks for, ready to answer as one policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from modpo_hpc.generation.engine import Engine, TransformersEngine
from modpo_hpc.generation.policies import load_policy, load_tokenizer
from modpo_hpc.run import Run
from modpo_hpc.study.generation import Sampling


@contextmanager
def policy_engine(run: Run, policy: str | None, sampling: Sampling) -> Iterator[Engine]:
    """An engine that answers as ``policy``, or as the base model if that is None."""
    yield TransformersEngine(load_policy(run, policy), load_tokenizer(run), sampling)
