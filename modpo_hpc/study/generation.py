"""Section of the study on text from models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modpo_hpc.study.section import Section


class Sampling(Section):
    """How a model is sampled. ``temperature`` 0 is greedy."""

    temperature: float = Field(0.8, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(512, ge=1)
    batch_size: int = Field(32, ge=1)


class Generation(Section):
    """Responses to training questions, and answers to test questions."""

    engine: Literal["transformers", "server"] = "transformers"
    responses_per_question: int = Field(5, ge=2)
    responses: Sampling = Sampling()
    answers: Sampling = Sampling()
