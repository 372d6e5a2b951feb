"""What a shard is made from, and whether its result is still that: the identity of results.

A shard is made from its recipe, from the fields of the study that its stage declares to read, from the contents of
files, from the judges that are really asked, and from the results of exactly those shards that it reads. All of that,
as one document, gives the hash ``inputs``; a result fits as long as the hash is the same.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from modpo_hpc.core.atomic import read_document
from modpo_hpc.core.contents import file_hash, hash_of
from modpo_hpc.core.marker_index import MarkerLine, read_line, read_lines
from modpo_hpc.core.markers import read_marker
from modpo_hpc.pipeline import Stage, stage_named
from modpo_hpc.study import Study

if TYPE_CHECKING:
    from modpo_hpc.core.reuse import Shelves
    from modpo_hpc.run import Run

NOT_IDENTITY: Mapping[str, str] = {
    "resources": "threads change the order of additions, memory and minutes change nothing",
    "*.micro_batch_size": "how many pairs a pass holds changes the order of additions, not the gradient of a step",
    "*.pass_tokens": "as micro_batch_size",
    "*.gradient_checkpointing": "the same activations, computed twice",
    "*.processes": "the same batch on more processes: the order of additions",
    "*.deepspeed": "a path; the contents of the file count",
    "*.checkpoint_seconds": "what is kept in case of a stop",
    "*.track": "a log beside the log",
    "*.search.retries": "patience with workers that died",
    "models.attention": "kernels of the same attention; the order of additions",
    "generation.server.health": "how a server is looked after",
    "generation.server.ready_minutes": "how a server is looked after",
    "generation.server.gpus": "where a server runs",
    "generation.server.restarts": "how a server is looked after",
    "toxicity.backends.*.requests_per_second": "pace",
    "toxicity.backends.*.base_url": "the place of the same service",
    "data.epitome": "a path; the contents of the file count",
    "data.file": "a path; the contents of the file count",
    "data.card": "words for readers of exports",
    "personas.surveys": "paths; the contents of the files count",
    "personas.columns": "a path; the contents of the file count",
    "criteria.files": "paths; the definitions of the criteria count",
    "judging.repeats": "counted where verdicts are asked again",
    "statistics.mixed_judges": "counted where verdicts of different judges may be counted together",
    "alignment.policies.*.training": "counted with what the policy does not override, as its settings",
}
"""Fields of the study that are no part of what results are made from, each with the reason. Those that say "the order
of additions" can change the last bits of a result, never the mathematics; a result made with another value is kept."""

ABSENT = "absent"
MADE_FROM = "made_from"
LISTED = 48
"""Shards of a need that the document names one by one; of more it has one hash."""


@dataclass(frozen=True)
class MadeFrom:
    """What all shards of an item are made from: the document, and its hash. ``lacking`` needs are not there (yet)."""

    document: dict[str, Any]
    hash: str
    lacking: dict[str, tuple[str, ...]]


def identity_fields(study: Study, names: tuple[str, ...]) -> dict[str, Any]:
    """Field -> its value as JSON, without what is no part of the identity; a field that is not set is left out."""
    found = {}
    for name in names:
        value: Any = study
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part)
            if value is None:
                break
        plain = _plain(value, name)
        if plain is not None:
            found[name] = plain
    return found


@lru_cache(maxsize=4096)
def counts(field: str) -> bool:
    """Whether ``field`` is part of what a result is made from."""
    return not any(fnmatch.fnmatchcase(field, pattern) for pattern in NOT_IDENTITY)


def _plain(value: Any, name: str) -> Any:
    if not counts(name):
        return None
    if isinstance(value, BaseModel):
        value = {field: getattr(value, field) for field in type(value).model_fields}
    if isinstance(value, Mapping):
        listed = {str(key): _plain(one, f"{name}.{key}") for key, one in value.items()}
        return {key: one for key, one in listed.items() if one is not None}
    if isinstance(value, Path):
        return None  # the content of what it names counts
    if isinstance(value, (tuple, list)):
        return [str(one) if isinstance(one, Path) else _plain(one, name) for one in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def recipe_identity(stage: Stage) -> str:
    """A recipe that the project ships counts by stage and version, one from elsewhere by its content."""
    own = recipe_of_lab(stage)
    return f"{stage.name} version {stage.version}" if own is None else f"{own.name} {file_hash(own)}"


def recipe_of_lab(stage: Stage) -> Path | None:
    """The script in the folder MODPO_JOBS that takes the place of the recipe of ``stage``; None if there is none."""
    folder = os.environ.get("MODPO_JOBS")
    own = Path(folder or "") / f"{stage.verb}.py"
    return own.resolve() if folder and own.is_file() else None


class Inventory:
    """The results of a run at one instant: each marker is read once, when it is first asked for.

    ``elsewhere`` is where a result may be that the run does not have in its place.
    """

    def __init__(self, run: Run, elsewhere: Shelves | None = None) -> None:
        self.run, self.study = run, run.full_study
        self._elsewhere = elsewhere
        self._lines: dict[str, dict[str, MarkerLine]] = {}
        self._single: dict[tuple[str, str], MarkerLine | None] = {}
        self._made_from: dict[tuple[str, str], MadeFrom] = {}
        self._judges: list[dict[str, Any]] | None = None
        self._digests: dict[tuple[str, str], str | None] = {}

    def lines(self, stage: str) -> dict[str, MarkerLine]:
        """Shard -> the line of its marker, fresh or not."""
        if stage not in self._lines:
            self._lines[stage] = read_lines(self.run.folder(stage), self.run.shard_ids(stage))
        return self._lines[stage]

    def line(self, stage: str, shard: str) -> MarkerLine | None:
        """The line of one marker; of a stage with many shards, all are read at once."""
        if stage in self._lines or len(self.run.shard_ids(stage)) > LISTED:
            return self.lines(stage).get(shard)
        if (stage, shard) not in self._single:
            self._single[stage, shard] = read_line(self.run.folder(stage), shard)
        return self._single[stage, shard]

    def inputs(self, stage: str, shard: str) -> str | None:
        """The hash of what ``shard`` is made from now; None while something that it reads is not there."""
        made_from = self.made_from(stage, shard)
        return None if made_from.lacking else inputs_of(made_from.hash, shard)

    def fresh(self, stage: str, shard: str) -> bool:
        """Whether ``shard`` has a result that was made from what there is now, or was imported."""
        line = self.line(stage, shard)
        return line is not None and self._fits(stage, shard, line)

    def missing(self, stage: str) -> list[str]:
        """The shards that still have to be made."""
        return [shard for shard in self.run.shard_ids(stage) if not self.fresh(stage, shard)]

    def digest(self, stage: str, shard: str) -> str | None:
        """What stands for the bytes of ``shard``: of its result, or of one that would be taken from elsewhere."""
        key = stage, shard
        if key not in self._digests:
            line, inputs = self.line(stage, shard), self.inputs(stage, shard)
            if line is not None and not self._fits(stage, shard, line):
                line = None
            if line is None and self._elsewhere is not None and inputs is not None:
                line = self._elsewhere.find(stage, shard, inputs)
            self._digests[key] = None if line is None else line.digest
        return self._digests[key]

    def made_from(self, stage: str, shard: str) -> MadeFrom:
        """What ``shard`` is made from now."""
        definition = stage_named(stage)
        item = definition.item(shard)
        key = stage, item
        if key not in self._made_from:
            self._made_from[key] = self._document(definition, item)
        return self._made_from[key]

    def _fits(self, stage: str, shard: str, line: MarkerLine) -> bool:
        """Whether the result behind ``line`` is one of ``shard`` as it would be made now, or by another judge."""
        if line.fits(self.inputs(stage, shard)):
            return True
        if not stage_named(stage).judges_may_differ(self.study):
            return False
        now, marker = self.made_from(stage, shard), read_marker(self.run.folder(stage), shard)
        before = {} if marker is None else read_made_from(self.run.root, marker.made_from)
        return not now.lacking and bool(before) and _without_judges(before) == _without_judges(now.document)

    def _document(self, stage: Stage, item: str) -> MadeFrom:
        document: dict[str, Any] = {"stage": stage.name, "item": item, "recipe": recipe_identity(stage)}
        document["fields"] = identity_fields(self.study, stage.fields_of_item(item)[0])
        if contents := stage.contents(self.study, item):
            document["contents"] = _plain(contents, "contents")
        if stage.asks_judges:
            document["judges"] = self._judges_asked()
        if stage.in_blocks:
            document["blocks"] = stage.blocks(self.study)
        needs: dict[str, Any] = {}
        lacking: dict[str, tuple[str, ...]] = {}
        for need, chosen in stage.needs_of_item(self.study, item).items():
            wanted = self.run.shard_ids(need) if chosen is None else chosen
            digests = {shard: self.digest(need, shard) for shard in wanted}
            absent = tuple(shard for shard, digest in digests.items() if digest is None)
            if absent and need not in stage.reads_too:
                lacking[need] = absent
            listed = {shard: digest or ABSENT for shard, digest in digests.items()}
            needs[need] = listed if len(listed) <= LISTED else {f"{len(listed)} shards": hash_of(listed)}
        document["needs"] = needs
        return MadeFrom(document, hash_of(document), lacking)

    def _judges_asked(self) -> list[dict[str, Any]]:
        if self._judges is None:
            from modpo_hpc.judging.settings import identity_of_judges

            self._judges = identity_of_judges(self.study)
        return self._judges


def _without_judges(document: Mapping[str, Any]) -> str:
    return hash_of({**document, "judges": None})


def made_from_path(root: Path, name: str) -> Path:
    """Where a run keeps the document ``name`` of what shards are made from."""
    return root / MADE_FROM / f"{name}.json"


def read_made_from(root: Path, name: str) -> dict[str, Any]:
    """The document ``name`` of what shards are made from; empty if the run has none of that name.

    Raises:
        InputError: it is damaged.
    """
    remedy = "Remove it: it explains results, and is written again when they are made."
    return read_document(made_from_path(root, name), remedy, {})


def inputs_of(made_from: str, shard: str) -> str:
    """The hash of what ``shard`` is made from: that of its item, and its own name."""
    return hashlib.sha256(f"{made_from} {shard}".encode()).hexdigest()[:16]
