"""The run as one recipe may see it: the fields, stages and shards that its stage declares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modpo_hpc.core.declared import Declaration, UndeclaredError, declared_study
from modpo_hpc.pipeline import Stage
from modpo_hpc.run import Run

if TYPE_CHECKING:
    import pyarrow as pa


class DeclaredRun(Run):
    """A run as one recipe sees it. What its stage does not declare is refused: nobody would know that it counts."""

    def __init__(self, run: Run, stage: Stage, shard: str) -> None:
        super().__init__(run.root, run.full_study, run.provenance)
        item = stage.item(shard)
        self._run, self._stage = run, stage
        self._needs = stage.needs_of_item(run.full_study, item)
        self.study = declared_study(run.full_study, Declaration(stage.name, stage.fields_of_item(item)[1]))

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
