"""A finished run as one file: every output checked against its manifest on the way in, and again anywhere else."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from modpo_hpc.core.atomic import atomic_file
from modpo_hpc.core.markers import MARKERS, marker_path
from modpo_hpc.errors import IncompleteError, InputError, ModpoError
from modpo_hpc.pipeline import STAGES
from modpo_hpc.run import Run

MANIFEST = "manifest.json"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class PackContents:
    """What is in a pack."""

    name: str
    files: int
    bytes: int


class DamagedPack(ModpoError):
    """A file does not have the hash that its manifest gives."""


def pack(run: Run, target: Path, leave_out: tuple[str, ...] = (), partial: bool = False) -> PackContents:
    """Write the run to ``target``, a tar that needs nothing of ours to be read. The same run gives the same bytes.

    Scratch, temporary files and logs stay behind. ``leave_out`` names stages whose outputs stay behind too (weights,
    mostly); their markers go along, so that it stays known what they were.

    Raises:
        IncompleteError: a stage is not finished, and ``partial`` is not set.
        InputError: no such stage to leave out, or the target lies inside the run.
        DamagedPack: an output is not what its marker says.
    """
    if unknown := set(leave_out) - {stage.name for stage in STAGES}:
        raise InputError(
            "there is no such stage to leave out",
            value=sorted(unknown)[0],
            remedy=f"Stages are: {', '.join(stage.name for stage in STAGES)}.",
        )
    if target.resolve().is_relative_to(run.root):
        raise InputError("the pack would lie inside the run that it packs", file=target, remedy="Give another place.")
    expected = _outputs(run, leave_out, partial)
    files = [*_own_files(run), *expected]
    manifest: dict[str, str] = {}
    total = 0
    with atomic_file(target) as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            path = run.root / name
            if not path.is_file():
                raise DamagedPack(
                    f"{path} is gone, though its shard counts as finished. Make it again with modpo rerun."
                )
            with open(path, "rb") as source:
                hashed = _Hashing(source)
                tar.addfile(_entry(f"{run.study.name}/{name}", path.stat().st_size), hashed)
            manifest[name] = hashed.digest()
            total += path.stat().st_size
            if name in expected and manifest[name] != expected[name]:
                raise DamagedPack(
                    f"{path} is not what its shard made: its SHA-256 is {manifest[name][:12]}..., "
                    f"its marker says {expected[name][:12]}..."
                )
        text = json.dumps({"run": dict(run.provenance), "files": manifest}, indent=1, sort_keys=True).encode()
        tar.addfile(_entry(f"{run.study.name}/{MANIFEST}", len(text)), io.BytesIO(text))
    return PackContents(run.study.name, len(manifest), total)


def verify_pack(path: Path) -> PackContents:
    """Read a whole pack and hold every file against the pack's manifest, and outputs against their markers.

    Raises:
        InputError: no pack, or one that was cut off.
        DamagedPack: a file is missing, is not in the manifest, or has another hash.
    """
    found: dict[str, str] = {}
    markers: dict[str, dict[str, str]] = {}
    manifest: dict[str, str] | None = None
    total, name = 0, ""
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                name, _, inside = member.name.partition("/")
                source = tar.extractfile(member)
                if source is None:
                    continue
                if inside == MANIFEST:
                    manifest = json.load(source)["files"]
                    continue
                hashed = _Hashing(source)
                while hashed.read(_BLOCK):
                    pass
                found[inside] = hashed.digest()
                total += member.size
                stage, _, kept = inside.partition("/")
                if kept.startswith(f"{MARKERS}/"):
                    source.seek(0)
                    outputs = json.load(source)["outputs"]
                    markers[inside] = {f"{stage}/{one}": facts["sha256"] for one, facts in outputs.items()}
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        raise InputError(
            f"this is no whole pack ({error})", file=path, remedy="Copy it again, or pack again."
        ) from error
    if manifest is None:
        raise InputError("this file ends before its manifest", file=path, remedy="Copy it again, or pack again.")
    for inside in sorted(manifest.keys() | found.keys()):
        if manifest.get(inside) != found.get(inside):
            how = "is missing" if inside not in found else "is not what was packed"
            raise DamagedPack(f"{path}: {inside} {how}")
    for marker, outputs in markers.items():
        for inside, digest in outputs.items():
            if inside in found and found[inside] != digest:
                raise DamagedPack(f"{path}: {inside} is not what {marker} says")
    return PackContents(name, len(found), total)


def _outputs(run: Run, leave_out: tuple[str, ...], partial: bool) -> dict[str, str]:
    """Path below the run -> SHA-256 of every output of every finished shard."""
    expected: dict[str, str] = {}
    for stage in STAGES:
        done = run.done(stage.name)
        if not partial and (missing := len(run.shard_ids(stage.name)) - len(done)):
            raise IncompleteError(
                f"{run.root}: {missing} shards of {stage.name} are not finished. Finish the run (modpo status shows "
                f"it), or pack what there is with --partial"
            )
        if stage.name not in leave_out:
            for marker in done.values():
                expected.update({f"{stage.name}/{name}": one.sha256 for name, one in marker.outputs.items()})
    return expected


def _own_files(run: Run) -> Iterator[str]:
    """The study, the provenance, every fresh marker, and what is beside the stages (the ledger, notes)."""
    elsewhere = {"logs", *(stage.name for stage in STAGES)}
    for path in sorted(run.root.rglob("*")):
        name = path.relative_to(run.root)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and name.parts[0] not in elsewhere:
            yield str(name)
    for stage in STAGES:
        for shard in run.done(stage.name):
            yield str(marker_path(run.folder(stage.name), shard).relative_to(run.root))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, 0
    return entry


class _Hashing:
    """A stream that hashes what is read through it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._total = source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._source.read(size)
        self._total.update(block)
        return block

    def digest(self) -> str:
        return self._total.hexdigest()
