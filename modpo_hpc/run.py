"""The run directory: the results of a study, and of the studies that it followed before."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar

from modpo_hpc.core import studies
from modpo_hpc.core.atomic import atomic_file, atomic_folder
from modpo_hpc.core.identity import Inventory, MadeFrom, inputs_of
from modpo_hpc.core.journal import Journal
from modpo_hpc.core.marker_index import read_lines
from modpo_hpc.core.markers import (
    IMPORTED,
    Marker,
    Output,
    describe_output,
    digest,
    marker_path,
    read_marker,
    read_verified,
)
from modpo_hpc.core.studies import STUDY_FILE, read_provenance
from modpo_hpc.errors import IncompleteError, InputError, Interrupted
from modpo_hpc.pipeline import ALL, Stage, stage_named
from modpo_hpc.provenance import code_identity, new_provenance, package_versions
from modpo_hpc.seeds import seed_of
from modpo_hpc.study import Study, differences, load_frozen_study
from modpo_hpc.study.evaluation import sandbox_mark

if TYPE_CHECKING:
    import pyarrow as pa

    from modpo_hpc.core.reuse import Shelves

IMPORTABLE_PARTS = {"posts": "questions", "personas": "personas"}
T = TypeVar("T")


class Run:
    """A run directory that exists. ``Run.open`` reads one, ``Run.create`` makes one or joins the same one."""

    def __init__(self, root: Path, study: Study, provenance: Mapping[str, Any]) -> None:
        self.root, self.study, self.full_study, self.provenance = root, study, study, provenance
        self._shard_ids: dict[str, tuple[str, ...]] = {}

    @classmethod
    def open(cls, root: str | Path) -> Run:
        """The run in the folder ``root``.

        Raises:
            InputError: the folder is no run directory.
        """
        root = Path(root).resolve()
        if not (root / STUDY_FILE).is_file():
            raise InputError(
                "this folder is no run directory (it has no study.yaml)",
                file=root,
                remedy="Start a run with: modpo run STUDY --run DIR",
            )
        return cls(root, load_frozen_study(root / STUDY_FILE), read_provenance(root))

    @classmethod
    def create(cls, root: str | Path, study: Study) -> Run:
        """The run in ``root``, which follows ``study`` from now on: a new one, or the one that is there.

        What was made from another study and does not fit any more stays in its place until something new takes it.

        Raises:
            InputError: the folder holds other files, somebody works on the run by another study, or another study
                was begun here in this very moment.
        """
        run = cls.envisage(root, study)
        if not (run.root / STUDY_FILE).exists():
            run._write()
        elif differences(cls.open(root).study, study):
            studies.follow(run.root, study)
        return run

    @classmethod
    def envisage(cls, root: str | Path, study: Study) -> Run:
        """The run of ``study`` in ``root`` as :meth:`create` would make it or have it follow; nothing is written.

        Raises:
            InputError: the folder holds other files.
        """
        root = Path(root).resolve()
        try:
            taken = root.exists() and (not root.is_dir() or studies.holds_others(root))
        except OSError as error:
            raise InputError(
                f"this folder cannot be read: {error.strerror}", file=root, remedy="Give a folder that you may use."
            ) from None
        if (root / STUDY_FILE).exists():  # asked last: it may have come while the folder was looked at
            return cls(root, study, read_provenance(root))
        if taken:
            raise InputError(
                "this place is taken by something that is no run",
                file=root,
                remedy="Give an empty or new folder.",
            )
        return cls(root, study, new_provenance(root.name))

    def _write(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
        except OSError as error:
            raise InputError(
                f"this folder cannot be made: {error.strerror}", file=self.root, remedy="Give a place that you may use."
            ) from None
        provenance = {**self.provenance, "versions": package_versions(), "code": code_identity()}
        if not studies.begin(self.root, self.study, provenance):
            other = Run.open(self.root)
            if differences(other.study, self.study):
                raise InputError(
                    "another study was begun in this folder in this very moment",
                    file=self.root,
                    remedy="Give one of the two another --run folder, or type this again to have the run follow it.",
                )
            self.provenance = other.provenance

    @property
    def logs(self) -> Path:
        """Folder of the logs of this run: ``<logs>/<stage>/<shard>/attempt_<n>.out``."""
        return Path(self.provenance.get("logs", self.root / "logs"))

    def folder(self, stage: str) -> Path:
        """Folder of what ``stage`` makes."""
        return self.root / stage_named(stage).name

    def shard_ids(self, stage: str) -> tuple[str, ...]:
        """The shards of ``stage`` in their canonical order."""
        if stage not in self._shard_ids:
            self._shard_ids[stage] = stage_named(stage).shards(self.full_study)
        return self._shard_ids[stage]

    def inventory(self, elsewhere: Shelves | None = None) -> Inventory:
        """The results of this run as they are now; see :class:`modpo_hpc.core.identity.Inventory`."""
        return Inventory(self, elsewhere)

    def inputs(self, stage: str, shard: str) -> str:
        """Hash of what ``shard`` of ``stage`` is made from now.

        Raises:
            IncompleteError: a shard that it reads is missing or stale.
        """
        made_from = self.inventory().made_from(stage, shard)
        self.refuse_lacking(stage, shard, made_from)
        return inputs_of(made_from.hash, shard)

    def refuse_lacking(self, stage: str, shard: str, made_from: MadeFrom) -> None:
        """Refuse to go on where something that ``shard`` reads is missing or stale.

        Raises:
            IncompleteError: names it, and the command that makes it.
        """
        for need, absent in made_from.lacking.items():
            problem = f"{stage} {shard} needs {need}, of which {len(absent)} shards are missing or stale"
            self._refuse(problem, need, absent)

    def digest(self, stage: str) -> str:
        """Hash of what ``stage`` made, over its finished shards, fresh or not."""
        markers = (read_marker(self.folder(stage), shard) for shard in self.shard_ids(stage))
        return digest(marker for marker in markers if marker is not None)

    def done(self, stage: str) -> dict[str, Marker]:
        """The finished shards of ``stage``: those whose marker was written from the present inputs."""
        inventory, folder = self.inventory(), self.folder(stage)
        fresh = (shard for shard in self.shard_ids(stage) if inventory.fresh(stage, shard))
        return {shard: marker for shard in fresh if (marker := read_marker(folder, shard))}

    def imported(self, stage: str) -> bool:
        """Whether something of ``stage`` was brought in, not made here; what an import leaves empty does not count."""
        lines = read_lines(self.root / stage, self.shard_ids(stage)).values()
        return any(one.inputs == IMPORTED and one.outputs for one in lines)

    @property
    def sandbox_mark(self) -> str | None:
        """The mark that everything shown of this run carries, if any part is simulated; imported parts are not."""
        brought = {part for part, stage in IMPORTABLE_PARTS.items() if self.imported(stage)}
        return sandbox_mark([part for part in self.study.simulated if part not in brought])

    def missing(self, stage: str) -> list[str]:
        """The shards of ``stage`` that still have to be made."""
        return self.inventory().missing(stage)

    @property
    def quoted(self) -> str:
        """The folder as a word of a command that can be copied into a shell."""
        return shlex.quote(str(self.root))

    def made(self, stage: str) -> bool:
        """Whether ``stage`` is finished and its shards made something: an import leaves what nothing needs empty."""
        wanted, inventory = self.shard_ids(stage), self.inventory()
        return bool(wanted) and all(
            inventory.fresh(stage, shard) and (line := inventory.line(stage, shard)) and line.outputs
            for shard in wanted
        )

    def table_path(self, stage: str, shard: str) -> Path:
        """Path of the main table of a shard."""
        return self.folder(stage) / f"{stage if (shard,) == ALL else shard}.parquet"

    def table(
        self, stage: str, columns: Sequence[str] | None = None, shard_ids: Sequence[str] | None = None
    ) -> pa.Table:
        """The table that ``stage`` made: its shards (all of them, or ``shard_ids``) in canonical order.

        Raises:
            IncompleteError: a shard is missing.
            InputError: the bytes of a file are not those that its shard wrote.
        """
        # Commands that only look at markers start without the third of a second that this import takes.
        import pyarrow as pa

        wanted = self.shard_ids(stage) if shard_ids is None else tuple(shard_ids)
        self.require(stage, wanted)
        return pa.concat_tables([self._verified(stage, shard, columns) for shard in wanted])

    def _verified(self, stage: str, shard: str, columns: Sequence[str] | None) -> pa.Table:
        path, marker = self.table_path(stage, shard), read_marker(self.folder(stage), shard)
        output = marker.outputs.get(path.name) if marker is not None else None
        return read_verified(path, output, columns, f"modpo rerun {self.quoted} {stage} {shard}")

    def require(self, stage: str, shard_ids: Sequence[str] | None = None) -> None:
        """Refuse to go on when ``stage`` (or one of ``shard_ids``) is not finished.

        Raises:
            IncompleteError: names what is missing and the command that makes it.
        """
        folder = self.folder(stage)
        wanted = self.shard_ids(stage) if shard_ids is None else shard_ids
        absent = [shard for shard in wanted if not marker_path(folder, shard).exists()]
        if absent:
            self._refuse(f"stage {stage} lacks {len(absent)} of {len(wanted)} shards", stage, absent)

    def _refuse(self, problem: str, stage: str, absent: Sequence[str]) -> NoReturn:
        shown = ", ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
        raise IncompleteError(f"{self.root}: {problem} ({shown}). Make them with: modpo rerun {self.quoted} {stage}")

    def seed(self, stage: str, *item: object) -> int:
        """The seed of one item of ``stage``; the same whatever the sharding."""
        return seed_of(self.study.seed, stage, *item)


@dataclass(eq=False)
class Shard:
    """One attempt at one shard, as its recipe sees it: outputs, scratch, progress, the wish to stop."""

    run: Run
    stage: Stage
    id: str
    scratch: Path
    should_stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[dict[str, Any]], None] = lambda _: None
    made_from: str = ""
    outputs: dict[str, Output] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    snapshots: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Folder of the stage; a shard writes below it, through the methods here only."""
        return self.run.folder(self.stage.name)

    @property
    def cpus(self) -> int:
        """Threads of this shard's arithmetic."""
        return self.stage.resources(self.run.full_study).cpus

    def block(self, items: Sequence[T]) -> list[T]:
        """The part of ``items`` that falls to this shard, whose id ends in its block number."""
        index, blocks = int(self.id.rpartition(".")[2]), self.stage.blocks(self.run.full_study)
        return list(items[index * len(items) // blocks : (index + 1) * len(items) // blocks])

    def write_table(
        self, rows: pa.Table | Sequence[Mapping[str, Any]], schema: pa.Schema, name: str | None = None
    ) -> None:
        """Write the main table of the shard, or another one of its stage under ``name``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = rows.cast(schema) if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
        path = self.run.table_path(self.stage.name, self.id) if name is None else self.folder / f"{name}.parquet"
        with atomic_file(path) as stream:
            pq.write_table(table, stream, compression="zstd", write_statistics=False)
        self._register(path, table.num_rows)

    @contextmanager
    def file(self, name: str, mode: str = "w") -> Iterator[IO[Any]]:
        """A stream to the file ``name`` below the stage's folder, there when the block ends well."""
        path = self.folder / name
        with atomic_file(path, mode) as stream:
            yield stream
        self._register(path)

    @contextmanager
    def directory(self, name: str) -> Iterator[Path]:
        """A folder to fill; it stands as ``name`` below the stage's folder when the block ends well."""
        path = self.folder / name
        with atomic_folder(path) as temporary:
            yield temporary
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            self._register(file)

    def journal(self, name: str = "rows.jsonl") -> Journal:
        """Rows that an earlier attempt wrote, and a way to add to them."""
        return Journal(self.scratch / name)

    def progress(self, done: int, total: int, unit: str, **metrics: float) -> None:
        """Say how far this shard is; ``metrics`` (loss, accuracy, ...) are shown beside it."""
        self.on_progress({"done": done, "total": total, "unit": unit, **metrics})

    def check(self) -> None:
        """Call between batches, with the state on disk.

        Raises:
            Interrupted: this attempt was asked to stop; the next one resumes here.
        """
        if self.should_stop():
            raise Interrupted(f"{self.stage.name} {self.id}: asked to stop; the next attempt goes on from here")

    def _register(self, path: Path, rows: int | None = None) -> None:
        self.outputs[str(path.relative_to(self.folder))] = describe_output(path, rows)
