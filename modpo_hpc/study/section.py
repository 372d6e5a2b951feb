"""The base of every section of the study file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the study: frozen, and closed to fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
