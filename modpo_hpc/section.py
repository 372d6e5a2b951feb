"""The base of every section of the study file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

InputPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().resolve())]
"""A file that the user brings: made absolute when the study is read, since shards run in other folders."""


class Section(BaseModel):
    """A part of the study: frozen, and closed to fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
"""What names of a study are made of: they become parts of file names, and a dot parts them there."""


def no_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    """``names``, if none stands there twice.

    Raises:
        ValueError: one does.
    """
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} stands in this list twice")
    return names
