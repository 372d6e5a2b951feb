"""The run as one recipe may see it: the fields of the study, the stages and the shards that its stage declares.

What a shard is made from can only be known if nothing else is read. So a recipe gets a :class:`DeclaredRun`, and the
study through a :class:`DeclaredSection`: both hand out what is declared as it is and refuse all else.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from pydantic import BaseModel

from modpo_hpc.errors import ModpoError
from modpo_hpc.pipeline import Stage
from modpo_hpc.run import Run
from modpo_hpc.study import Study

if TYPE_CHECKING:
    import pyarrow as pa


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

    def seen(self, value: Any, field: str) -> Any:
        """The ``value`` of ``field`` as it may be read: whole, or a part of the study that is declared in part."""
        if self.whole(field):
            return value
        if field in self._above:
            if isinstance(value, BaseModel):
                return DeclaredSection(value, field, self)
            if isinstance(value, Mapping):
                return DeclaredMapping(value, field, self)
        self.refuse(field)

    def refuse(self, field: str) -> NoReturn:
        raise UndeclaredError(
            f"the recipe of stage {self.stage} reads the field {field!r} of the study, which the stage does not "
            f"declare. Add it to the stage's `reads` in modpo_hpc/stages, and raise its version."
        )


class DeclaredSection:
    """A section of the study that is declared in part."""

    def __init__(self, section: BaseModel, path: str, declaration: Declaration) -> None:
        self._section, self._path, self._declaration = section, path, declaration

    def __getattr__(self, name: str) -> Any:
        kind = type(self._section)
        field = f"{self._path}.{name}" if self._path else name
        if name in kind.model_fields or self._declaration.whole(field):
            return self._declaration.seen(getattr(self._section, name), field)
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
        return self._declaration.seen(self._items[name], f"{self._path}.{name}")

    def __iter__(self) -> Iterator[str]:
        self._declaration.refuse(self._path)

    def __len__(self) -> int:
        self._declaration.refuse(self._path)


class DeclaredRun(Run):
    """A run as one recipe sees it. What its stage does not declare is refused: nobody would know that it counts."""

    def __init__(self, run: Run, stage: Stage, shard: str) -> None:
        super().__init__(run.root, run.full_study, run.provenance)
        item = stage.item(shard)
        self._run, self._stage = run, stage
        self._needs = stage.needs_of_item(run.full_study, item)
        declaration = Declaration(stage.name, stage.fields_of_item(item)[1])
        self.study = cast(Study, DeclaredSection(run.full_study, "", declaration))

    def folder(self, stage: str) -> Path:
        """As :meth:`Run.folder`. Raises UndeclaredError."""
        if stage != self._stage.name:
            self._declared(stage)
        return super().folder(stage)

    def shard_ids(self, stage: str) -> tuple[str, ...]:
        """Of a stage that is read in part: the shards that are read."""
        chosen = self._needs.get(stage)
        return super().shard_ids(stage) if chosen is None else chosen

    def table(
        self, stage: str, columns: Sequence[str] | None = None, shard_ids: Sequence[str] | None = None
    ) -> pa.Table:
        """As :meth:`Run.table`; without ``shard_ids``, the declared shards. Raises UndeclaredError, too."""
        self._declared(stage, shard_ids or ())
        return super().table(stage, columns, shard_ids)

    def require(self, stage: str, shard_ids: Sequence[str] | None = None) -> None:
        """As :meth:`Run.require`. Raises UndeclaredError, too."""
        self._declared(stage, shard_ids or ())
        super().require(stage, shard_ids)

    def made(self, stage: str) -> bool:
        """As :meth:`Run.made`. Raises UndeclaredError."""
        self._declared(stage)
        return self._run.made(stage)

    def missing(self, stage: str) -> list[str]:
        """As :meth:`Run.missing`. Raises UndeclaredError."""
        self._declared(stage)
        return self._run.missing(stage)

    def _declared(self, stage: str, shard_ids: Sequence[str] = ()) -> None:
        if stage not in self._needs:
            raise UndeclaredError(
                f"the recipe of stage {self._stage.name} reads stage {stage}, which is not among its needs. Add it to "
                f"them in modpo_hpc/stages, and raise the version."
            )
        chosen = self._needs[stage]
        if chosen is not None and (others := [one for one in shard_ids if one not in chosen]):
            raise UndeclaredError(
                f"the recipe of stage {self._stage.name} reads shard {others[0]} of stage {stage}, which is not among "
                f"its needs. Add it to `needs_of` in modpo_hpc/stages, and raise the version."
            )
