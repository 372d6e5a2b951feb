"""The base of every section of the study file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


@dataclass(frozen=True)
class OnDisk:
    """Marks the type of a field that names something on disk; ``modpo_hpc.study.paths`` makes it whole.

    ``keeps_name``: a file that the project ships stays the name that it is; ``or_name``: what is no folder is a name,
    on the hub; ``suffix``: what ends otherwise is a name.
    """

    keeps_name: bool = False
    or_name: bool = False
    suffix: str = ""

    def may_be(self, name: str) -> bool:
        """Whether ``name`` can be that of something on disk."""
        return name.endswith(self.suffix) and not (self.or_name and name == "sandbox")


InputPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().resolve()), OnDisk()]
"""A file or folder that the user brings."""
ConfigurationFile = Annotated[str, OnDisk(keeps_name=True)]
"""A file that the user brings, or one that the project ships, by its name there (``configs/...``)."""
ModelName = Annotated[str, OnDisk(or_name=True)]
"""A folder with a model, or a name on the hub."""


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
