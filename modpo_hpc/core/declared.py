"""The study as one recipe may see it: only the fields that its stage declares.

What a shard is made from can only be known if nothing else is read. So a recipe gets the study through
:class:`DeclaredStudy`, which hands out declared fields as they are and refuses all others.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, cast

from pydantic import BaseModel

from modpo_hpc.errors import ModpoError
from modpo_hpc.study import Study


class UndeclaredError(ModpoError):
    """A recipe read what its stage does not declare: its results would rest on something that nobody sees."""


class Declaration:
    """The fields that a stage reads: dotted names; a name stands for all that is below it."""

    def __init__(self, stage: str, fields: Iterable[str]) -> None:
        self.stage = stage
        self._fields = frozenset(fields)
        self._above = frozenset(
            ".".join(parts[:depth]) for one in self._fields for parts in [one.split(".")] for depth in range(len(parts))
        )

    def whole(self, field: str) -> bool:
        """Whether ``field`` may be read with all that is below it."""
        parts = field.split(".")
        return any(".".join(parts[:depth]) in self._fields for depth in range(1, len(parts) + 1))

    def partly(self, field: str) -> bool:
        """Whether something below ``field`` may be read."""
        return field in self._above

    def refuse(self, field: str) -> NoReturn:
        raise UndeclaredError(
            f"the recipe of stage {self.stage} reads the field {field!r} of the study, which the stage does not "
            f"declare. Add it to the stage's `reads` in modpo_hpc/stages, and raise its version."
        )


def declared_study(study: Study, declaration: Declaration) -> Study:
    """``study``, of which only what ``declaration`` names can be read.

    Raises (when read):
        UndeclaredError: another field.
    """
    return cast(Study, DeclaredSection(study, "", declaration))


class DeclaredSection:
    """A section of the study that is declared in part."""

    def __init__(self, section: BaseModel, path: str, declaration: Declaration) -> None:
        self._section, self._path, self._declaration = section, path, declaration

    def __getattr__(self, name: str) -> Any:
        kind = type(self._section)
        field = f"{self._path}.{name}" if self._path else name
        if name in kind.model_fields or self._declaration.whole(field):
            return _seen(getattr(self._section, name), field, self._declaration)
        found = getattr(kind, name)
        if isinstance(found, property) and found.fget is not None:
            return found.fget(self)  # what it reads is looked at in turn
        if isinstance(found, types.FunctionType) and not hasattr(BaseModel, name):
            return types.MethodType(found, self)
        self._declaration.refuse(field)


class DeclaredMapping(Mapping[str, Any]):
    """A mapping by name of which some names are declared; it does not tell which others there are."""

    def __init__(self, items: Mapping[str, Any], path: str, declaration: Declaration) -> None:
        self._items, self._path, self._declaration = items, path, declaration

    def __getitem__(self, name: str) -> Any:
        return _seen(self._items[name], f"{self._path}.{name}", self._declaration)

    def __iter__(self) -> Iterator[str]:
        self._declaration.refuse(self._path)

    def __len__(self) -> int:
        self._declaration.refuse(self._path)


def _seen(value: Any, field: str, declaration: Declaration) -> Any:
    if declaration.whole(field):
        return value
    if declaration.partly(field):
        if isinstance(value, BaseModel):
            return DeclaredSection(value, field, declaration)
        if isinstance(value, Mapping):
            return DeclaredMapping(value, field, declaration)
    declaration.refuse(field)
