"""Results that are not in their place: set aside in this run, or made by another run.

A result that no longer fits its study is moved to ``DIR/aside/<stage>/<inputs>/`` before a new one takes its place. It
comes back from there as soon as the study asks for it again. What another run has made from the same is taken over by
a hard link (a copy where that cannot be), after its bytes were hashed and found to be those of its marker.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modpo_hpc.core import studies
from modpo_hpc.core.atomic import write_text
from modpo_hpc.core.contents import sha256_of
from modpo_hpc.core.identity import Inventory, MadeFrom, made_from_path
from modpo_hpc.core.marker_index import MarkerLine, line_of
from modpo_hpc.core.markers import (
    Marker,
    Output,
    marker_path,
    read_marker,
    read_marker_file,
    write_marker,
    write_marker_file,
)
from modpo_hpc.errors import InputError

if TYPE_CHECKING:
    from modpo_hpc.run import Run

ASIDE = "aside"
MARKER = "marker.json"
VARIABLE = "MODPO_REUSE"
"""Runs, or folders of runs, that every run takes results from; separated as in PATH."""


@dataclass(frozen=True)
class Found:
    """A result that can be taken: its marker, the folder that its outputs are below, and the run that made it."""

    marker: Marker
    folder: Path
    run: Path
    aside: bool


class Shelves:
    """Where results can be taken from: what ``run`` has set aside, and ``others``: runs by their folder."""

    def __init__(self, run: Run, others: Sequence[Path] = ()) -> None:
        self._root = run.root
        self.others = tuple(dict.fromkeys(one for one in others if one != run.root))

    def find(self, stage: str, shard: str, inputs: str) -> MarkerLine | None:
        """The line of what :meth:`look` finds."""
        found = self.look(stage, shard, inputs)
        return None if found is None else line_of(found.marker)

    def look(self, stage: str, shard: str, inputs: str) -> Found | None:
        """The result of ``shard`` made from ``inputs``, set aside here or anywhere in another run."""
        for root in (self._root, *self.others):
            aside = root / ASIDE / stage / inputs
            places = {aside: aside / MARKER}
            if root != self._root:
                places[root / stage] = marker_path(root / stage, shard)
            for folder, path in places.items():
                with suppress(InputError):
                    marker = read_marker_file(path)
                    if marker is not None and marker.inputs == inputs and marker.shard == shard:
                        return Found(marker, folder, root, folder == aside)
        return None


def shelves_of(run: Run) -> Shelves:
    """Where ``run`` may take results from: the runs that it was told of, and those of MODPO_REUSE."""
    told = [Path(one) for one in studies.reused(run.root)]
    told += [Path(one).expanduser().resolve() for one in os.environ.get(VARIABLE, "").split(os.pathsep) if one]
    return Shelves(run, list(dict.fromkeys(one for place in told for one in runs_in(place))))


def runs_in(place: Path) -> list[Path]:
    """``place`` itself if it is a run, else the runs in it."""
    if (place / "study.yaml").is_file():
        return [place]
    with suppress(OSError):
        return sorted(one for one in place.iterdir() if (one / "study.yaml").is_file())
    return []


def check_reuse(places: Sequence[str | Path]) -> list[str]:
    """``places`` as absolute paths.

    Raises:
        InputError: one of them is no run and has none in it.
    """
    found = []
    for place in places:
        path = Path(place).expanduser().resolve()
        if not runs_in(path):
            raise InputError(
                "this is no run, and no folder with runs in it",
                field="--reuse",
                value=str(place),
                remedy="Give run directories, or a folder of them.",
            )
        found.append(str(path))
    return found


def take(run: Run, stage: str, shard: str, inventory: Inventory, shelves: Shelves) -> Found | None:
    """Put a result that is elsewhere in the place of ``shard``; None if there is none that fits.

    A result of another run whose bytes are not those of its marker is passed over: it would be made anew.
    """
    inputs = inventory.inputs(stage, shard)
    found = None if inputs is None else shelves.look(stage, shard, inputs)
    if found is None:
        return None
    folder, ours = run.folder(stage), found.run == run.root
    set_aside(run, stage, shard)
    places = {}
    for name, output in found.marker.outputs.items():
        # one that was killed while it set this aside may have left a part in its old place
        places[name] = found.folder / name if (found.folder / name).is_file() or not ours else folder / name
        if not _is(places[name], output):
            return None
    for name, place in places.items():
        if not ours:
            _link(place, folder / name)
        elif place != folder / name:
            _move(place, folder / name)
    copy_made_from(found.run, run.root, found.marker.made_from)
    write_marker(folder, found.marker if ours else replace(found.marker, source=str(found.run)))
    if ours:
        shutil.rmtree(found.folder, ignore_errors=True)
    return found


def set_aside(run: Run, stage: str, shard: str) -> bool:
    """Move the result of ``shard`` out of its place, marker first, so that nobody reads half of it."""
    folder = run.folder(stage)
    marker = read_marker(folder, shard)
    if marker is None:
        return False
    aside = run.root / ASIDE / stage / marker.inputs
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    write_marker_file(aside / MARKER, marker)
    marker_path(folder, shard).unlink(missing_ok=True)
    for name in marker.outputs:
        if (folder / name).exists():  # weights that nobody needs any more may have been removed by hand
            _move(folder / name, aside / name)
    return True


def copy_made_from(source: Path, target: Path, name: str) -> None:
    """Bring the document ``name`` that says what a result was made from into the run at ``target``."""
    there, here = (made_from_path(root, name) for root in (source, target))
    if name and there.is_file() and not here.exists():
        _link(there, here)


def keep_made_from(root: Path, made_from: MadeFrom) -> None:
    """Keep the document of what shards are made from, once for all shards of an item."""
    path = made_from_path(root, made_from.hash)
    if not path.exists():
        path.parent.mkdir(exist_ok=True, mode=0o700)
        write_text(path, json.dumps(made_from.document, indent=1, sort_keys=True, ensure_ascii=False))


def _is(path: Path, output: Output) -> bool:
    try:
        return sha256_of(path) == output.sha256
    except OSError:
        return False


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # another filesystem, or one without hard links
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
