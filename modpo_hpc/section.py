"""The base of every section of the study file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

InputPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().resolve())]
"""A file that the user brings: made absolute when the study is read, since shards run in other folders."""


class Section(BaseModel):
    """A part of the study: frozen, and closed to fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
