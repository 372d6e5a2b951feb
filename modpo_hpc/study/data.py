"""Sections of the study that say where questions and personas come from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modpo_hpc.section import InputPath, ModelName, Section

INVENTED = "invented"
"""Label of a population of people who do not exist: what is made with them carries the mark."""


class Data(Section):
    """Seeker posts. With neither ``epitome`` nor ``file``, the sandbox invents them."""

    epitome: InputPath | None = Field(None, description="EPITOME's explorations-reddit.csv")
    file: InputPath | None = Field(None, description="any CSV with an id and a text column")
    id_column: str = Field("sp_id", description="column of the post's id")
    text_column: str = Field("seeker_post", description="column of the post's text")
    card: InputPath | None = Field(
        None,
        description="where posts and people come from and what they may be used for, in Markdown; for exports",
    )
    min_characters: int = Field(10, ge=0)
    max_characters: int = Field(2000, ge=1)
    min_words: int = Field(3, ge=0)
    test_size: int = Field(600, ge=1, description="posts held back for the test, of a file")
    sandbox_train: int = Field(800, ge=8, description="invented training posts")
    sandbox_test: int = Field(200, ge=4, description="invented test posts")
    use_train: int | None = Field(None, ge=1, description="training posts the study goes on with; all if empty")
    use_test: int | None = Field(None, ge=1, description="test posts the study goes on with; all if empty")


class Personas(Section):
    """Personas. Without ``surveys``, the sandbox invents the survey."""

    surveys: dict[str, InputPath] = Field(default_factory=dict, description="population label -> survey CSV")
    columns: InputPath | None = Field(None, description="column mapping of the survey; the built-in one if empty")
    quality_floor: float = Field(0.9, ge=0, le=1)
    select: int = Field(150, ge=2, description="personas chosen from the pool")
    quota: dict[str, int] = Field(
        default_factory=dict, description="population label -> personas chosen from it; in proportion if empty"
    )
    train: int = Field(100, ge=1, description="of these, personas that rank responses in training")
    test: int = Field(50, ge=1, description="of these, personas that judge the policies")
    rarest_in_test: int = Field(2, ge=0, description="at least this many of each rarest group in the test set")


class Models(Section):
    """The two models that everything starts from: a name on the hub, a folder, or ``sandbox``."""

    base: ModelName = Field("sandbox", description="the model that answers and is aligned")
    base_revision: str | None = None
    reward: ModelName = Field("sandbox", description="the encoder that reward models start from")
    reward_revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantization: Literal["nf4"] | None = Field(
        None, description="base weights in four bits, for cards of 24 GB; needs the extra nf4 (bitsandbytes)"
    )
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"
    teach_steps: int = Field(600, ge=1, description="sandbox only: steps that teach the tiny base model to answer")
