"""The run directory: one study, frozen, and what has been made of it so far."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import yaml

from modpo_hpc import shards
from modpo_hpc.errors import IncompleteError, InputError, Interrupted
from modpo_hpc.pipeline import Stage, stage_named
from modpo_hpc.provenance import new_provenance, package_versions
from modpo_hpc.seeds import seed_of
from modpo_hpc.study import Study, differences, load_study
from modpo_hpc.study.evaluation import sandbox_mark
from modpo_hpc.summaries import MarkerSummary, read_summary, summarise_markers

if TYPE_CHECKING:
    import pyarrow as pa

STUDY_FILE, PROVENANCE_FILE = "study.yaml", "run.json"
IMPORTABLE_PARTS = {"posts": "questions", "personas": "personas"}
T = TypeVar("T")


class Run:
    """A run directory that exists. ``Run.open`` reads one, ``Run.create`` makes one or joins the same one."""

    def __init__(self, root: Path, study: Study, provenance: Mapping[str, Any]) -> None:
        self.root, self.study, self.provenance = root, study, provenance
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
        provenance = json.loads((root / PROVENANCE_FILE).read_text()) if (root / PROVENANCE_FILE).exists() else {}
        return cls(root, load_study(root / STUDY_FILE), provenance)

    @classmethod
    def create(cls, root: str | Path, study: Study) -> Run:
        """The run of ``study`` in ``root``: a new one, or the one that is there if its study is the same.

        Raises:
            InputError: the folder holds a run of another study (the differences are named), or other files.
        """
        run = cls.envisage(root, study)
        if not (run.root / STUDY_FILE).exists():
            run._write()
        return run

    @classmethod
    def envisage(cls, root: str | Path, study: Study) -> Run:
        """The run of ``study`` in ``root`` as it is, or as :meth:`create` would make it; nothing is written.

        Raises:
            InputError: as :meth:`create`.
        """
        root = Path(root).resolve()
        if (root / STUDY_FILE).exists():
            run = cls.open(root)
            if changed := differences(run.study, study):
                shown = "; ".join(changed[:8]) + (f"; and {len(changed) - 8} more" if len(changed) > 8 else "")
                raise InputError(
                    f"this run was started with another study ({shown})",
                    file=root / STUDY_FILE,
                    remedy="Give the study that the run was started with, or another --run folder.",
                )
            return run
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise InputError(
                "this place is taken by something that is no run",
                file=root,
                remedy="Give an empty or new folder.",
            )
        return cls(root, study, new_provenance(root.name))

    def _write(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        with shards.atomic_file(self.root / PROVENANCE_FILE, "w") as stream:
            json.dump({**self.provenance, "versions": package_versions()}, stream, indent=1)
        with shards.atomic_file(self.root / STUDY_FILE, "w") as stream:
            stream.write(self._study_text())

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
            self._shard_ids[stage] = stage_named(stage).shards(self.study)
        return self._shard_ids[stage]

    def inputs(self, stage: str, digests: Mapping[str, str] | None = None) -> str:
        """Hash of all that a shard of ``stage`` starts from: settings, recipe version, bytes of its needs.

        ``digests`` gives the digests of the needs to one who has them already.
        """
        definition = stage_named(stage)
        parts = [stage, definition.version, self._study_as_frozen]
        parts += [f"{need}={(digests or {}).get(need) or self.digest(need)}" for need in definition.needs]
        return f"{seed_of(*parts):016x}"

    @cached_property
    def _study_as_frozen(self) -> str:
        """The file as it was written: fields that a later version adds do not make old results stale."""
        path = self.root / STUDY_FILE
        return path.read_text(encoding="utf-8") if path.exists() else self._study_text()

    def _study_text(self) -> str:
        text: str = yaml.safe_dump(self.study.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        return text

    def digest(self, stage: str) -> str:
        """Hash of what ``stage`` made, over its finished shards."""
        folder = self.folder(stage)
        if kept := read_summary(folder, self.shard_ids(stage)):
            return kept.digest
        markers = (shards.read_marker(folder, shard) for shard in self.shard_ids(stage))
        return shards.digest(marker for marker in markers if marker is not None)

    def summary(self, stage: str) -> MarkerSummary:
        """What the markers of ``stage`` come to; kept for the next one who asks when the stage is complete."""
        return summarise_markers(self.folder(stage), self.shard_ids(stage))

    def done(self, stage: str) -> dict[str, shards.Marker]:
        """The finished shards of ``stage``: those whose marker was written from the present inputs."""
        folder, inputs = self.folder(stage), self.inputs(stage)
        found = {shard: shards.read_marker(folder, shard) for shard in self.shard_ids(stage)}
        return {shard: marker for shard, marker in found.items() if marker is not None and marker.fits(inputs)}

    def imported(self, stage: str) -> bool:
        """Whether something of ``stage`` was brought in, not made here; what an import leaves empty does not count."""
        markers = (shards.read_marker(self.folder(stage), shard) for shard in self.shard_ids(stage))
        return any(one is not None and one.inputs == shards.IMPORTED and one.outputs for one in markers)

    @property
    def sandbox_mark(self) -> str | None:
        """The mark that everything shown of this run carries, if any part is simulated; imported parts are not."""
        brought = {part for part, stage in IMPORTABLE_PARTS.items() if self.imported(stage)}
        return sandbox_mark([part for part in self.study.simulated if part not in brought])

    def missing(self, stage: str) -> list[str]:
        """The shards of ``stage`` that still have to be made."""
        done = self.done(stage)
        return [shard for shard in self.shard_ids(stage) if shard not in done]

    def made(self, stage: str) -> bool:
        """Whether ``stage`` is finished and its shards made something: an import leaves what nothing needs empty."""
        wanted, done = self.shard_ids(stage), self.done(stage)
        return bool(wanted) and len(done) == len(wanted) and all(marker.outputs for marker in done.values())

    def table_path(self, stage: str, shard: str) -> Path:
        """Path of the main table of a shard."""
        return self.folder(stage) / f"{stage if self.shard_ids(stage) == (shard,) else shard}.parquet"

    def table(
        self,
        stage: str,
        columns: Sequence[str] | None = None,
        shard_ids: Sequence[str] | None = None,
    ) -> pa.Table:
        """The table that ``stage`` made: its shards (all of them, or ``shard_ids``) in canonical order.

        Raises:
            IncompleteError: a shard is missing.
        """
        # Commands that only look at markers start without the third of a second that this import takes.
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = self.shard_ids(stage) if shard_ids is None else tuple(shard_ids)
        self.require(stage, wanted)
        paths = [self.table_path(stage, shard) for shard in wanted]
        return pa.concat_tables([pq.read_table(path, columns=columns, partitioning=None) for path in paths])

    def require(self, stage: str, shard_ids: Sequence[str] | None = None) -> None:
        """Refuse to go on when ``stage`` (or one of ``shard_ids``) is not finished.

        Raises:
            IncompleteError: names what is missing and the command that makes it.
        """
        folder = self.folder(stage)
        wanted = self.shard_ids(stage) if shard_ids is None else shard_ids
        absent = [shard for shard in wanted if not shards.marker_path(folder, shard).exists()]
        if absent:
            shown = ", ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
            raise IncompleteError(
                f"{self.root}: stage {stage} lacks {len(absent)} of {len(wanted)} shards ({shown}). "
                f"Make them with: modpo rerun {self.root} {stage}"
            )

    def seed(self, stage: str, *item: object) -> int:
        """The seed of one item of ``stage``; the same whatever the sharding."""
        return seed_of(self.study.seed, stage, *item)


class Shard:
    """One attempt at one shard, as its recipe sees it: outputs, scratch, progress, the wish to stop."""

    def __init__(
        self,
        run: Run,
        stage: Stage,
        shard: str,
        scratch: Path,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.run, self.stage, self.id, self.scratch = run, stage, shard, scratch
        self.outputs: dict[str, shards.Output] = {}
        self.metrics: dict[str, float] = {}
        self._should_stop, self._on_progress = should_stop, on_progress

    @property
    def folder(self) -> Path:
        """Folder of the stage; a shard writes below it, through the methods here only."""
        return self.run.folder(self.stage.name)

    @property
    def cpus(self) -> int:
        """Threads of this shard's arithmetic."""
        return self.stage.resources(self.run.study).cpus

    def block(self, items: Sequence[T]) -> list[T]:
        """The part of ``items`` that falls to this shard, whose id ends in its block number."""
        index, blocks = int(self.id.rpartition(".")[2]), self.stage.blocks(self.run.study)
        return list(items[index * len(items) // blocks : (index + 1) * len(items) // blocks])

    def write_table(
        self, rows: pa.Table | Sequence[Mapping[str, Any]], schema: pa.Schema, name: str | None = None
    ) -> None:
        """Write the main table of the shard, or another one of its stage under ``name``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = rows.cast(schema) if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
        path = self.run.table_path(self.stage.name, self.id) if name is None else self.folder / f"{name}.parquet"
        with shards.atomic_file(path) as stream:
            pq.write_table(table, stream, compression="zstd", write_statistics=False)
        self._register(path, table.num_rows)

    @contextmanager
    def file(self, name: str, mode: str = "w") -> Iterator[IO[Any]]:
        """A stream to the file ``name`` below the stage's folder, there when the block ends well."""
        path = self.folder / name
        with shards.atomic_file(path, mode) as stream:
            yield stream
        self._register(path)

    @contextmanager
    def directory(self, name: str) -> Iterator[Path]:
        """A folder to fill; it stands as ``name`` below the stage's folder when the block ends well."""
        path = self.folder / name
        with shards.atomic_folder(path) as temporary:
            yield temporary
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            self._register(file)

    def journal(self, name: str = "rows.jsonl") -> shards.Journal:
        """Rows that an earlier attempt wrote, and a way to add to them."""
        return shards.Journal(self.scratch / name)

    def progress(self, done: int, total: int, unit: str, **metrics: float) -> None:
        """Say how far this shard is; ``metrics`` (loss, accuracy, ...) are shown beside it."""
        self._on_progress({"done": done, "total": total, "unit": unit, **metrics})

    def check(self) -> None:
        """Call between batches, with the state on disk.

        Raises:
            Interrupted: this attempt was asked to stop; the next one resumes here.
        """
        if self._should_stop():
            raise Interrupted(f"{self.stage.name} {self.id}: asked to stop; the next attempt goes on from here")

    def _register(self, path: Path, rows: int | None = None) -> None:
        self.outputs[str(path.relative_to(self.folder))] = shards.describe_output(path, rows)
